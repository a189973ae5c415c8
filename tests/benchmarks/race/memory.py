"""A process's own memory on Linux: what is resident, the highest it was, and a limit to what may be added."""

from __future__ import annotations

import ctypes
import gc
import resource
from pathlib import Path

_SELF = Path("/proc/self")


def settle() -> None:
    """Give back what was freed, so that what is resident is in use."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def resident() -> int:
    """Resident bytes now."""
    return _status("VmRSS")


def reset_peak() -> None:
    """Let the highest resident size start from now (proc(5), clear_refs)."""
    (_SELF / "clear_refs").write_text("5")


def peak() -> int:
    """The highest resident size since `reset_peak`, in bytes."""
    return _status("VmHWM")


def allow(more: int) -> None:
    """Refuse memory beyond what the process has now and `more` bytes: PyTorch then says that it cannot allocate."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + more, hard))


def _status(field: str) -> int:
    for line in (_SELF / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")
