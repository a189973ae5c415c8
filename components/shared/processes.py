"""Child processes that never outlive their parent, whatever kills it.

Launchers put their workers into sessions of their own, so that killing a process group misses them. A child therefore
runs under a supervisor: a small process that adopts every orphan below it (a "child subreaper" on Linux) and kills them
all when its own parent is gone. This file is also that supervisor's program, which is why it imports no other of ours.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL_SECONDS = 0.2
_WATCH_SECONDS = 0.5
_TAIL_LINES = 30
_TAIL_BYTES = 16384


class ChildFailed(RuntimeError):
    """A child process ended with an error; the message has its command, how it ended and the end of its log."""

    def __init__(self, argv: Sequence[str], returncode: int, log: Path) -> None:
        how = f"was killed by {signal.Signals(-returncode).name}" if returncode < 0 else f"ended with exit code {returncode}"
        super().__init__(f"{shlex.join(argv)} {how}. The last lines of {log}:\n{log_tail(log)}")
        self.returncode = returncode  # negative: the signal that killed it


def log_tail(log: Path) -> str:
    """The last 30 lines of a log file (of its last 16 KiB)."""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-_TAIL_LINES:])


def run_child(argv: Sequence[str], *, env: Mapping[str, str], log: Path, cwd: Path | None = None) -> None:
    """Run a command to its end, its output written to `log`. It gets `env` as its whole environment, and no input.

    If this process dies or leaves this function early, by an exception, Ctrl-C or any signal, everything that the
    command started is killed. So is what it left running when it ended. Raises ChildFailed unless it exits with 0.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as output:
        # -P: our folder must not come before the standard library on the supervisor's path
        supervisor = subprocess.Popen(
            [sys.executable, "-P", __file__, str(os.getpid()), *argv],
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        returncode = supervisor.wait()
    finally:
        if supervisor.poll() is None:
            kill_descendants(supervisor.pid)
            supervisor.kill()
            supervisor.wait()
    if returncode != 0:
        raise ChildFailed(argv, returncode, log)


def kill_descendants(pid: int) -> None:
    """SIGKILL every process below `pid`, also those in other groups and sessions, until none is left."""
    for _ in range(50):  # a process may start others while we look
        alive = [child for child in _descendants(pid) if child.status() != psutil.STATUS_ZOMBIE]
        if not alive:
            return
        for child in alive:
            child.kill()
        time.sleep(0.02)


def die_with_parent() -> None:
    """Let this process be killed as soon as its parent is gone. For the start of a program that another one started.

    The kernel's own signal comes first; it follows the parent's *thread*, which may outlive or precede the parent
    itself, so that a thread of ours also watches whose child we are. Only on Linux; elsewhere nothing happens.
    """
    if sys.platform != "linux":
        return
    parent = os.getppid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent or parent == 1 and os.getpid() != 1 and _was_orphaned():
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Thread(target=_watch, args=(parent,), name="die-with-parent", daemon=True).start()
