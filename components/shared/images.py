"""The images that steps run in, named in one place. A registry is put before them by DEEPVIDEO_REGISTRY at compile time."""

from __future__ import annotations

import os

VERSION = "0.1.0"
LOCAL_REGISTRY = "localhost"
ROLES = ("light", "generation", "training")


def registry() -> str:
    """What stands before the images' names."""
    return os.environ.get("DEEPVIDEO_REGISTRY", LOCAL_REGISTRY).rstrip("/")


def image(role: str, cpu: bool = False) -> str:
    """The image of a role: `light` (no engine), `generation` (vLLM) or `training` (DeepSpeed); for GPUs, or for `cpu` alone.

    Images without an engine are the same for both.
    """
    variant = "-cpu" if cpu and role in ("generation", "training") else ""
    return f"{registry()}/deepvideo-r1-{role}:{VERSION}{variant}"
