"""The program of a decode worker: reads requests from stdin and answers on stdout, one JSON object a line each.

A decoder can hang or crash on a bad file, and no Python code can interrupt it: it runs here, where it can be killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import decord
import numpy as np
from decord._ffi.base import DECORDLimitReachedError

from components.shared.processes import die_with_parent

_BLOCK = 1 << 20  # bytes
_NO_SUBSTITUTES = 1e-9  # fraction of frames that decord may put others in the place of; 0 would mean any
_NO_TIME = -1e15  # seconds; FFmpeg's mark for a time that is not known lies far below
_DECODER_ERRORS = (RuntimeError, AssertionError, decord.DECORDError, DECORDLimitReachedError)


class Unusable(Exception):
    """A file that cannot be used: a reason, and a detail that is the same on every machine."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def digest(path: str) -> dict[str, Any]:
    """SHA-256 of the file's content."""
    found = hashlib.sha256()
    size = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
            size += len(block)
    if size == 0:
        raise Unusable("empty_file", "the file has zero bytes")
    return {"digest": found.hexdigest()}


def frame_indices(total: int, num_frames: int) -> np.ndarray:
    """Uniform indices over `total` frames, first and last included: an even number, at most `num_frames`."""
    count = min(num_frames, total) // 2 * 2
    return np.minimum(np.rint(np.linspace(0, total - 1, count)).astype(np.int64), total - 1)


def video(path: str, frame_size: int, num_frames: int, out: str) -> dict[str, Any]:
    """Decode sampled frames, uint8 (T, frame_size, frame_size, 3), into `out` (.npy); returns times in seconds."""
    with open(path, "rb") as file:
        head = file.read(256)
    if not head:
        raise Unusable("empty_file", "the file has zero bytes")
    try:
        reader = decord.VideoReader(
            path, decord.cpu(0), frame_size, frame_size, num_threads=1, fault_tol=_NO_SUBSTITUTES
        )
    except _DECODER_ERRORS as error:
        raise _not_opened(head, str(error)) from error
    total = len(reader)
    if total < 2:
        raise Unusable("too_short", f"the video has {total} frame(s), at least 2 are needed")
    indices = frame_indices(total, num_frames)
    try:
        frames = reader.get_batch(indices).asnumpy()
    except _DECODER_ERRORS as error:
        raise Unusable("truncated", "decoding broke off: the file is truncated or damaged") from error
    times = reader.get_frame_timestamp(indices)  # (T, 2): begin and end; the last is the video's last frame
    if times[0, 0] < _NO_TIME:  # AVI stores no times: its frame rate is constant
        times = np.stack([indices, indices + 1], axis=1) / reader.get_avg_fps()
    timestamps = [round(float(time), 6) for time in times[:, 0]]
    end = round(float(times[-1, 1]), 6)
    if not all(a < b for a, b in zip(timestamps, timestamps[1:], strict=False)):
        raise Unusable("bad_timestamps", "the frames' timestamps do not ascend")
    np.save(out, frames)
    return {"timestamps": timestamps, "duration": max(end, timestamps[-1])}


def image(path: str, frame_size: int, out: str) -> dict[str, Any]:
    """Decode an image as a single frame, uint8 (1, frame_size, frame_size, 3), into `out` (.npy)."""
    from PIL import Image, UnidentifiedImageError

    if os.path.getsize(path) == 0:
        raise Unusable("empty_file", "the file has zero bytes")
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB").resize((frame_size, frame_size), Image.Resampling.BICUBIC))
    except UnidentifiedImageError as error:
        raise Unusable("not_an_image", "the content is no image that can be decoded") from error
    except Image.DecompressionBombError as error:
        raise Unusable("too_large", "the image has too many pixels") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise Unusable("truncated", "decoding broke off: the file is truncated or damaged") from error
    np.save(out, pixels[None])
    return {"timestamps": [0.0], "duration": 1.0}


def _not_opened(head: bytes, message: str) -> Unusable:
    if "cannot find video stream" in message:
        return Unusable("no_video_stream", "the file holds no video stream")
    if _is_video_header(head):
        return Unusable("truncated", "the file begins as a video but cannot be opened: truncated or damaged")
    return Unusable("not_a_video", "the content is no video that can be decoded")


def _is_video_header(head: bytes) -> bool:
    """Whether a file begins as MP4 or MOV, Matroska or WebM, AVI, FLV, MPEG-PS, MPEG-TS, Ogg or ASF do."""
    return (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
        or head.startswith((b"\x1aE\xdf\xa3", b"FLV\x01", b"\x00\x00\x01\xba", b"OggS", b"0&\xb2u"))
        or (head.startswith(b"RIFF") and head[8:12] == b"AVI ")
        or (head[:1] == b"G" and head[188:189] == b"G")
    )


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
    """Answer until stdin ends."""
    die_with_parent()
    decord.logging.set_level(decord.logging.QUIET)
    with os.fdopen(os.dup(1), "w") as replies:
        os.dup2(2, 1)  # what a library prints must not come between the answers
        print(json.dumps({"ready": True}), file=replies, flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(json.loads(line))), file=replies, flush=True)


if __name__ == "__main__":
    main()
