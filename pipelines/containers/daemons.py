"""What all the servers share that we start on this machine."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from pathlib import Path


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def end_with_parent() -> None:
    """For `preexec_fn`: the kernel kills the process when ours is gone, however that ended."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def closed_to_others(folder: Path) -> Path | None:
    """The first of the folder's parents that only its owner may enter, None if there is none."""
    parents = reversed(folder.absolute().parents)
    return next((path for path in parents if path.exists() and not os.stat(path).st_mode & 0o001), None)
