"""What all the servers share that we start on this machine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import signal
import socket
from pathlib import Path


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens, for a server that is started later, and again after a kill.

    It is none of those that Linux gives to whoever asks for any port: another's connection would have it by then.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = 10_000 + secrets.randbelow(max(first - 10_000, 10_000))
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port


def end_with_parent() -> None:
    """For `preexec_fn`: the kernel kills the process when ours is gone, however that ended."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def closed_to_others(folder: Path) -> Path | None:
    """The first of the folder's parents that only its owner may enter, None if there is none."""
    parents = reversed(folder.absolute().parents)
    return next((path for path in parents if path.exists() and not os.stat(path).st_mode & 0o001), None)
