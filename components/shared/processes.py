"""Child processes that never outlive their parent, whatever kills it.

Launchers put their workers into sessions of their own, so that killing a process group misses them. A child therefore
runs under a supervisor: a small process that adopts every orphan below it (a "child subreaper" on Linux) and kills them
all when its own parent is gone. This file is also that supervisor's program, which is why it imports no other of ours.
"""

from __future__ import annotations

import contextlib
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

_ANCESTOR = "DEEPVIDEO_ANCESTOR"
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL_SECONDS = 0.2
_WATCH_SECONDS = 0.5
_TAIL_LINES = 30
_TAIL_BYTES = 16384


class ChildFailed(RuntimeError):
    """A child process ended with an error; the message has its command, how it ended and the end of its log, if any."""

    def __init__(self, argv: Sequence[str], returncode: int, log: Path | None) -> None:
        how = f"ended with exit code {returncode}"
        if returncode < 0:
            how = f"was killed by {signal.Signals(-returncode).name}"
        last = f"The last lines of {log}:\n{log_tail(log)}" if log else "Its output says why."
        super().__init__(f"{shlex.join(argv)} {how}. {last}")
        self.returncode = returncode  # negative: the signal that killed it


def log_tail(log: Path) -> str:
    """The last 30 lines of a log file (of its last 16 KiB)."""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-_TAIL_LINES:])


def run_child(argv: Sequence[str], *, env: Mapping[str, str], log: Path | None, cwd: Path | None = None) -> None:
    """Run a command to its end. It gets `env` as its whole environment, and no input.

    Its output is written to `log`, None: to this process's own.

    If this process dies or leaves this function early, by an exception, Ctrl-C or any signal, everything that the
    command started is killed. So is what it left running when it ended. Raises ChildFailed unless it exits with 0.
    """
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") if log else contextlib.nullcontext() as output:
        # -P: our folder must not come before the standard library on the supervisor's path
        supervisor = subprocess.Popen(
            [sys.executable, "-P", __file__, str(os.getpid()), *argv],
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if log else None,
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
    while alive := [child for child in _descendants(pid) if _runs(child)]:  # one may start others while we look
        for child in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        time.sleep(0.02)


def name_ancestor() -> None:
    """Let all that this process starts from now on die with it, provided they call `die_with_parent`.

    A shell may stand between us and them: they learn of us by an environment variable, which all of them inherit.
    """
    if sys.platform == "linux":
        os.environ[_ANCESTOR] = f"{os.getpid()} {_seen(os.getpid())[1]}"


def die_with_parent() -> None:
    """Let this process be killed as soon as its parent, or the ancestor named by `name_ancestor`, is gone.

    For the start of a program that another one started. The kernel's own signal comes first; it follows the *thread*
    that started us and stops at a shell in between, so a thread of ours also watches. On Linux only.
    """
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ancestor = _named_ancestor()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _kill_if_orphaned(parent, ancestor)  # the parent may have gone before the kernel was told
    threading.Thread(target=_watch, args=(parent, ancestor), name="die-with-parent", daemon=True).start()


def _watch(parent: int, ancestor: tuple[int, str] | None) -> None:
    while True:
        time.sleep(_WATCH_SECONDS)
        _kill_if_orphaned(parent, ancestor)


def _kill_if_orphaned(parent: int, ancestor: tuple[int, str] | None) -> None:
    if os.getppid() != parent or ancestor and not _lives(*ancestor):
        kill_descendants(os.getpid())
        os.kill(os.getpid(), signal.SIGKILL)


def _named_ancestor() -> tuple[int, str] | None:
    if not (value := os.environ.get(_ANCESTOR)):
        return None
    pid, began = value.split()
    return int(pid), began


def _lives(pid: int, began: str) -> bool:
    """Whether the process that began then still runs; another one may have its id by now."""
    state, found = _seen(pid)
    return found == began and state not in ("Z", "X")


def _seen(pid: int) -> tuple[str, str]:
    """A process's state and when it began, as Linux shows them (proc(5)); empty if there is none.

    The beginning is counted from the machine's own: as a time of day it would change when the machine's clock is set.
    """
    try:
        shown = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return "", ""
    fields = shown.rpartition(")")[2].split()  # what stands before is the program's name, with any characters
    return fields[0], fields[19]


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value})")


def _supervise(parent: int, argv: Sequence[str]) -> int:
    """Run `argv` as a child until it ends, or until `parent` is gone or a signal says so; returns its exit code.

    Whatever is still below us then is killed. If a signal ended the child, we end by the same one.
    """
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    if sys.platform == "linux":
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    # Ctrl-C reaches the whole group: our parent decides. A handler, for a child would inherit that we ignore it
    signal.signal(signal.SIGINT, lambda _number, _frame: None)
    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGHUP, on_signal)
    try:
        child = subprocess.Popen(argv)
        while os.getppid() == parent and not stop.is_set():
            with contextlib.suppress(subprocess.TimeoutExpired):
                returncode = child.wait(_POLL_SECONDS)
                break
        else:
            return 1
    finally:
        kill_descendants(os.getpid())
    if returncode < 0:
        if returncode != -signal.SIGKILL:  # its handler cannot be set
            signal.signal(-returncode, signal.SIG_DFL)
        os.kill(os.getpid(), -returncode)
    return returncode


if __name__ == "__main__":
    sys.exit(_supervise(int(sys.argv[1]), sys.argv[2:]))
