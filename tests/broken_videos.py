"""Video files broken in twelve ways, made from a good one; the reason that ingest must give for each."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from tests.videos import write_video


def write_audio(path: Path) -> None:
    """One second of silence in an MP4 without a video stream."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_uneven(path: Path, begins: list[int], *, width: int = 64, height: int = 48, seed: int = 0) -> None:
    """Frames shown from the given times on, milliseconds: a variable frame rate."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for begin in begins:
            pixels = rng.integers(0, 255, (height // 16, width // 16, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = begin, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _box(data: bytes | bytearray, name: bytes) -> tuple[int, int]:
    """(begin, end) of the content of an MP4 box."""
    at = data.index(name)
    return at + 4, at - 4 + struct.unpack(">I", data[at - 4 : at])[0]


def rotate(good: bytes, degrees: int) -> bytes:
    """An MP4 that players show turned clockwise: the matrix in its track header (ISO/IEC 14496-12, 8.3.2) is replaced."""
    data = bytearray(good)
    begin, _ = _box(data, b"tkhd")
    at = begin + 4 + (20 if data[begin] == 0 else 32) + 16
    one, turn = 1 << 16, {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees]
    a, b, c, d = (value * one for value in turn)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    return bytes(data)


def _cut(path: Path, good: bytes, rng: np.random.Generator) -> None:
    path.write_bytes(good[: int(len(good) * rng.uniform(0.4, 0.8))])


def _header_alone(path: Path, good: bytes, rng: np.random.Generator) -> None:
    path.write_bytes(good[: _box(good, b"moov")[0] + int(rng.integers(20, 200))])


def _without_index(path: Path, good: bytes, rng: np.random.Generator) -> None:
    """The index stands at the end of a file that was not finished, and is not there."""
    begin, end = _box(good, b"mdat")
    path.write_bytes(good[:32] + struct.pack(">I", end - begin + 8) + b"mdat" + good[begin:end])


def _zeroed(path: Path, good: bytes, rng: np.random.Generator) -> None:
    """Blocks that a disk or a download lost: all pictures are zeros."""
    begin, end = _box(good, b"mdat")
    path.write_bytes(good[:begin] + bytes(end - begin) + good[end:])


def _unknown_codec(path: Path, good: bytes, rng: np.random.Generator) -> None:
    path.write_bytes(good.replace(b"avc1", b"zzz1").replace(b"avcC", b"zzzC"))


def _one_frame(path: Path, good: bytes, rng: np.random.Generator) -> None:
    write_video(path, frames=1, fps=5, seed=int(rng.integers(1 << 30)))


def _picture(path: Path, good: bytes, rng: np.random.Generator) -> None:
    Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(path, format="png")


# way -> (what makes the file, the reason in quarantine)
WAYS: dict[str, tuple[Callable[[Path, bytes, np.random.Generator], object], str]] = {
    "empty": (lambda path, good, rng: path.touch(), "empty_file"),
    "text": (lambda path, good, rng: path.write_text("<html>404 Not Found</html>\n" * 40), "not_a_video"),
    "noise": (lambda path, good, rng: path.write_bytes(b"\x9f" + rng.bytes(5000)), "not_a_video"),
    "picture": (_picture, "not_a_video"),
    "cut": (_cut, "truncated"),
    "header_alone": (_header_alone, "truncated"),
    "without_index": (_without_index, "truncated"),
    "zeroed": (_zeroed, "truncated"),
    "unknown_codec": (_unknown_codec, "no_decoder"),
    "audio_alone": (lambda path, good, rng: write_audio(path), "no_video_stream"),
    "one_frame": (_one_frame, "too_short"),
    "hangs": (lambda path, good, rng: os.mkfifo(path), "decode_timeout"),
}


def write_broken(path: Path, way: str, good: bytes, seed: int) -> None:
    """A file broken in one of WAYS, in its details by `seed`. `good` is an MP4 whose index stands first."""
    WAYS[way][0](path, good, np.random.default_rng(seed))
