"""The program of a decode worker: reads requests from stdin and answers on stdout, one JSON object a line each.

A decoder can hang or crash on a bad file, and no Python code can interrupt it: it runs here, where it can be killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from components.ingest.frame_sampling import FrameSampling, within
from components.ingest.frame_size import FrameSize
from components.ingest.readers import load_decoder, open_video
from components.ingest.readers.contracts import Decoder, Unusable, VideoReader
from components.shared.processes import die_with_parent

_BLOCK = 1 << 20  # bytes
_RESIZED_AT_ONCE = 8  # frames: a long video's frames in their own size would fill the memory
Size = int | dict[str, Any]  # a square's side in pixels, or the fields of FrameSize


def digest(path: str) -> dict[str, Any]:
    """SHA-256 of the file's content, or of a folder's names and contents."""
    files = sorted(file for file in Path(path).iterdir() if file.is_file()) if os.path.isdir(path) else [Path(path)]
    found = hashlib.sha256()
    size = 0
    for each in files:
        if os.path.isdir(path):
            found.update(f"{each.name}\0{each.stat().st_size}\0".encode())
        with open(each, "rb") as file:
            while block := file.read(_BLOCK):
                found.update(block)
                size += len(block)
    if size == 0:
        raise Unusable("empty_file", "the file has zero bytes")
    return {"digest": found.hexdigest()}


def video(
    path: str,
    out: str,
    *,
    decoder: Decoder,
    frame_size: Size,
    sampling: dict[str, Any],
    clip: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Decode sampled frames, uint8 (T, H, W, 3), into `out` (.npy); returns times in seconds.

    `sampling` are the fields of FrameSampling. Times within a clip count from its begin.
    """
    if not os.path.isdir(path):
        with open(path, "rb") as file:
            if not file.read(1):
                raise Unusable("empty_file", "the file has zero bytes")
    square = frame_size if isinstance(frame_size, int) else None
    reader = open_video(path, decoder, square)
    times = reader.times()
    inside = np.arange(len(times)) if clip is None else within(times, clip)
    if len(inside) < 2:
        where = "the video" if clip is None else f"the clip of {clip[0]:g} to {clip[1]:g} s"
        raise Unusable("too_short", f"{where} has {len(inside)} frame(s), at least 2 are needed")
    chosen = inside[FrameSampling.model_validate(sampling).choose(times[inside])]
    frames = reader.frames(chosen) if isinstance(frame_size, int) else _resized(reader, chosen, frame_size)
    begin = 0.0 if clip is None else clip[0]
    last = times[inside[-1], 1]
    timestamps = [round(float(time) - begin, 6) for time in times[chosen, 0]]
    end = round(float(last) - begin, 6)
    if not all(a < b for a, b in zip(timestamps, timestamps[1:], strict=False)):
        raise Unusable("bad_timestamps", "the frames' timestamps do not ascend")
    np.save(out, frames)
    return {"timestamps": timestamps, "duration": max(end, timestamps[-1])}


def _resized(reader: VideoReader, chosen: np.ndarray, fields: dict[str, Any]) -> np.ndarray:
    from PIL import Image

    found = np.empty((0,), dtype=np.uint8)
    for start in range(0, len(chosen), _RESIZED_AT_ONCE):
        block = reader.frames(chosen[start : start + _RESIZED_AT_ONCE])
        if not found.size:
            height, width = _size_of(fields, block.shape[1], block.shape[2], len(chosen))
            found = np.empty((len(chosen), height, width, 3), dtype=np.uint8)
        for place, frame in enumerate(block, start=start):
            found[place] = np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))
    return found


def _size_of(fields: dict[str, Any], height: int, width: int, frames: int) -> tuple[int, int]:
    try:
        return FrameSize.model_validate(fields).of(height, width, frames)
    except ValueError as error:
        raise Unusable("bad_shape", str(error)) from error


def image(path: str, out: str, *, frame_size: Size) -> dict[str, Any]:
    """Decode an image as a single frame, uint8 (1, H, W, 3), into `out` (.npy)."""
    from PIL import Image, UnidentifiedImageError

    if os.path.getsize(path) == 0:
        raise Unusable("empty_file", "the file has zero bytes")
    try:
        with Image.open(path) as picture:
            fields = {"fixed": (frame_size, frame_size)} if isinstance(frame_size, int) else frame_size
            height, width = _size_of(fields, picture.height, picture.width, 1)
            pixels = np.asarray(picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
    except UnidentifiedImageError as error:
        raise Unusable("not_an_image", "the content is no image that can be decoded") from error
    except Image.DecompressionBombError as error:
        raise Unusable("too_large", "the image has too many pixels") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise Unusable("truncated", "decoding broke off: the file is truncated or damaged") from error
    np.save(out, pixels[None])
    return {"timestamps": [0.0], "duration": 1.0}


OPERATIONS: dict[str, Callable[..., dict[str, Any]]] = {"digest": digest, "video": video, "image": image}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to one request: what the operation returns, or {"reason", "detail"}."""
    try:
        return OPERATIONS[request.pop("operation")](**request)
    except Unusable as problem:
        return {"reason": problem.reason, "detail": problem.detail}
    except OSError as error:
        return {"reason": "unreadable", "detail": error.strerror or type(error).__name__}


def main() -> None:
    """Answer until stdin ends. The decoder named on the command line is loaded first, outside any file's deadline."""
    die_with_parent()
    with os.fdopen(os.dup(1), "w") as replies:
        os.dup2(2, 1)  # what a library prints must not come between the answers
        load_decoder(cast(Decoder, sys.argv[1]))
        print(json.dumps({"ready": True}), file=replies, flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(json.loads(line))), file=replies, flush=True)


if __name__ == "__main__":
    main()
