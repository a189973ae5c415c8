"""Reading frames from the cache against decoding them again: 16 frames of 60 s of 640 x 360, warm page cache.

`python -m tests.benchmarks.frame_cache [--repeats 20]`
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

from components.ingest.decode_worker import digest, video
from components.ingest.frame_cache import FrameCache, entry_name
from components.ingest.frame_sampling import FrameSampling
from components.shared.store import FolderStore

SIZE, SECONDS, RATE, FRAMES, FRAME_SIZE = (640, 360), 60, 25, 16, 252


def write_clip(path: Path) -> None:
    """A minute of smooth pictures that move."""
    width, height = SIZE
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        base = 127 + 60 * np.sin(columns / 40) + 60 * np.cos(rows / 30)
        for i in range(SECONDS * RATE):
            grey = np.roll(base, 3 * i, axis=1).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.stack([grey] * 3, axis=-1), format="rgb24")))
        container.mux(stream.encode())


def median_seconds(action: Callable[[], object], repeats: int) -> float:
    """The median time of an action, after one that warms the caches."""
    action()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def measure(folder: Path, repeats: int) -> dict[str, float]:
    """Median seconds of decoding, and of reading the cache with the file's content digest before it."""
    path, out = folder / "clip.mp4", folder / "frames.npy"
    write_clip(path)
    sampling = FrameSampling(num_frames=FRAMES).model_dump()
    recipe: dict[str, object] = {"operation": "video", "frame_size": FRAME_SIZE, "sampling": sampling}

    def decode() -> bytes:
        video(str(path), str(out), decoder="decord", frame_size=FRAME_SIZE, sampling=sampling)
        return out.read_bytes()

    frames = decode()
    cache = FrameCache(FolderStore(folder / "store"))
    cache.write(entry_name(digest(str(path))["digest"], recipe), frames)

    def read() -> bytes | None:
        return cache.read(entry_name(digest(str(path))["digest"], recipe))

    assert read() == frames
    decoding, reading = median_seconds(decode, repeats), median_seconds(read, repeats)
    return {
        "file_mb": path.stat().st_size / 1e6,
        "frames_mb": len(frames) / 1e6,
        "decode_ms": 1000 * decoding,
        "cache_ms": 1000 * reading,
        "times_faster": decoding / reading,
    }


def main() -> None:
    """Print the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps({name: round(value, 2) for name, value in measure(Path(folder), given.repeats).items()}))


if __name__ == "__main__":
    main()
