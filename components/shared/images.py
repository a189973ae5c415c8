"""The images that steps run in, named in one place. A registry is put before them by DEEPVIDEO_REGISTRY at compile time."""

from __future__ import annotations

import os

VERSION = "0.1.0"
LOCAL_REGISTRY = "localhost"


def registry() -> str:
    """What stands before the images' names."""
    return os.environ.get("DEEPVIDEO_REGISTRY", LOCAL_REGISTRY).rstrip("/")


def image(role: str) -> str:
    """The image of a role: `light` (no engine), `generation` (vLLM) or `training` (DeepSpeed)."""
    return f"{registry()}/deepvideo-r1-python-{role}:{VERSION}"
