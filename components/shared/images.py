"""The images that steps run in, named in one place. A registry is put before them by DEEPVIDEO_REGISTRY at compile time."""

from __future__ import annotations

import os

VERSION = "0.1.0"


def image(role: str) -> str:
    """The image of a role: `light` (no engine), `generation` (vLLM) or `training` (DeepSpeed)."""
    registry = os.environ.get("DEEPVIDEO_REGISTRY", "localhost").rstrip("/")
    return f"{registry}/deepvideo-r1-python-{role}:{VERSION}"
