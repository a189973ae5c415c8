"""How far a long loop is, told to whoever watches: a file of events, a bar on a terminal, or nobody.

A step runs in a process of its own, so that the command line cannot see its loops. It names a file in the variable
DEEPVIDEO_PROGRESS; the steps append one JSON object a line to it, and the command line reads what was appended.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "DEEPVIDEO_PROGRESS"
_SECONDS_BETWEEN_EVENTS = 0.2  # of one loop; its first and last event are always written

Advance = Callable[..., None]


@contextmanager
def progress(label: str, *, total: int, unit: str) -> Iterator[Advance]:
    """Show a loop over `total` things of `unit` while the block runs. Yields `advance(count=1)`: so many more are done.

    With DEEPVIDEO_PROGRESS set, the loop's start, its advances and its end (`done` < `total` if it broke off) are
    appended to the file it names; else a terminal on stderr gets a bar with the time left; else nothing is shown.
    """
    if path := os.environ.get(VARIABLE):
        yield from _to_file(Path(path), label, total, unit)
    elif sys.stderr.isatty():
        yield from _to_terminal(label, total, unit)
    else:
        yield lambda count=1: None


def step_started(name: str) -> None:
    """Tell the reader of the events that a step began. Silent without DEEPVIDEO_PROGRESS."""
    if path := os.environ.get(VARIABLE):
        _append(Path(path), event="step_started", step=name)


def step_finished(name: str, seconds: float, note: str = "") -> None:
    """Tell the reader of the events that a step ended after `seconds`. `note` says more in a few words."""
    if path := os.environ.get(VARIABLE):
        _append(Path(path), event="step_finished", step=name, seconds=seconds, note=note)


def read_events(path: Path, offset: int = 0) -> tuple[list[dict[str, object]], int]:
    """The events that were appended after byte `offset`, and the offset to go on from. No file yet: no events.

    Every event has `event` (start, advance, end, step_started or step_finished), `time` (seconds since the epoch) and
    `pid`; a loop's have `label`, `done`, `total` and `unit`; a step's have `step`, and `seconds` and `note` at its end.
    A line that is still being written is left for the next call.
    """
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    whole = data[: data.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()], offset + len(whole)


def _to_file(path: Path, label: str, total: int, unit: str) -> Iterator[Advance]:
    done = 0
    written = time.monotonic()

    def tell(event: str) -> None:
        nonlocal written
        written = time.monotonic()
        _append(path, event=event, label=label, done=done, total=total, unit=unit)

    def advance(count: int = 1) -> None:
        nonlocal done
        done += count
        if done >= total or time.monotonic() - written >= _SECONDS_BETWEEN_EVENTS:
            tell("advance")

    tell("start")
    try:
        yield advance
    finally:
        tell("end")


def _to_terminal(label: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    started = time.monotonic()

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[speed]}"),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, speed="")
        done = 0

        def advance(count: int = 1) -> None:
            nonlocal done
            done += count
            bar.update(task, completed=done, speed=speed_text(done, time.monotonic() - started))

        yield advance


def speed_text(done: float, seconds: float) -> str:
    """How many a second, for a bar: "12.3/s"; empty before there is anything to tell."""
    return f"{done / seconds:.1f}/s" if done and seconds > 0 else ""


def _append(path: Path, **event: object) -> None:
    line = json.dumps({**event, "time": time.time(), "pid": os.getpid()}) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    # one small write with O_APPEND: lines of several processes do not mix
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)
