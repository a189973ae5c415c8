"""What has to be waited for: a condition and no time, for on a busy machine everything may take ten times as long."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import psutil

SOON = 60.0  # seconds


def wait_for(condition: Callable[[], Any], seconds: float = SOON, what: str = "it does not come") -> None:
    """Wait until the condition holds. Fails with `what` after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def runs(pid: int) -> bool:
    """Whether there is such a process that has not ended yet."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def decode_workers() -> list[psutil.Process]:
    """Ingest's decode workers below this process, which has other tests' services as children too."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if "components.ingest.decode_worker" in child.cmdline():
                found.append(child)
    return found
