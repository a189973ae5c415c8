"""Keep what a library prints away from the user's terminal, and at hand for an error message."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

_TAIL = 4000  # characters


@contextmanager
def captured_output() -> Iterator[Callable[[], str]]:
    """Send file descriptors 1 and 2 to a temporary file: C++ warnings and child processes included.

    Yields a function that returns the last lines that were written so far. Only for blocks in which nothing of the
    project's own is printed.
    """
    with tempfile.TemporaryFile(mode="w+b") as file:
        sys.stdout.flush()
        sys.stderr.flush()
        saved = os.dup(1), os.dup(2)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)

        def tail() -> str:
            sys.stdout.flush()
            sys.stderr.flush()
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            text = file.read().decode(errors="replace")
            file.seek(0, os.SEEK_END)
            return text

        try:
            yield tail
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            os.close(saved[0])
            os.close(saved[1])


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables that the user has not set, and undo all changes to the environment afterwards.

    vLLM puts LD_PRELOAD and other variables into the environment, where every later child process would inherit them.
    """
    before = dict(os.environ)
    for name, value in values.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Make imports of many modules cheaper: nothing is collected meanwhile, and what exists is left alone for good.

    It saves about 2 of 11 seconds when vLLM starts, which calls gc.collect() several times and freezes the heap itself.
    """
    enabled = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
