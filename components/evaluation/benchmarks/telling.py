"""What a long evaluation tells: a bar on a terminal; in a log file, where a bar is of no use, a line now and then."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from components.shared import progress
from components.shared.progress import Advance, speed_text

_SECONDS_BETWEEN_LINES = 30.0


def note(text: str) -> None:
    """A line on stderr, above a bar if there is one."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def told_progress(label: str, *, total: int, unit: str) -> Iterator[Advance]:
    """`progress`, with lines on stderr where that shows nothing: the first, the last, and one each half minute."""
    with progress.progress(label, total=total, unit=unit) as shown:
        if os.environ.get(progress.VARIABLE) or sys.stderr.isatty() or not total:
            yield shown
        else:
            yield _lines(label, total, unit)


def _lines(label: str, total: int, unit: str) -> Advance:
    started = written = time.monotonic()
    done = first = 0  # first: what was there before anything was waited for

    def advance(count: int = 1) -> None:
        nonlocal done, first, written
        now = time.monotonic()
        first = first or (count if not done and now - started < 1 else 0)
        done += count
        if count and (done >= total or now - written >= _SECONDS_BETWEEN_LINES):
            written = now
            note(f"{label}: {done} of {total} {unit}{_speed(done - first, total - done, now - started)}")

    note(f"{label}: {total} {unit}")
    return advance


def _speed(done: int, left: int, seconds: float) -> str:
    speed = speed_text(done, seconds)
    if not speed or not left:
        return ""
    return f", {speed}, about {max(1, round(left * seconds / done / 60))} min left"
