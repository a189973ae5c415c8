"""Real video files for tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import av
import numpy as np

# Ingest's decoders that are installed; tests/ingest/test_torchcodec.py brings the last
DECODERS = ("decord", "pyav", *(["torchcodec"] if importlib.util.find_spec("torchcodec") else []))


def write_video(path: Path, *, frames: int, fps: int, width: int = 64, height: int = 48, seed: int = 0) -> None:
    """Frame i shows blocks of random colour, all of it drawn from `seed`."""
    rng = np.random.default_rng(seed)
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(frames):
            pixels = rng.integers(0, 255, (height // 16, width // 16, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
