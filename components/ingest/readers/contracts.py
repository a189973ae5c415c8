"""What a reader of video files does. All give the same frames for the same timestamps."""

from __future__ import annotations

from typing import Literal, Protocol

import av
import numpy as np

Decoder = Literal["decord", "pyav", "torchcodec"]


class Unusable(Exception):
    """A file that cannot be used: a reason, and a detail that is the same on every machine."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class VideoReader(Protocol):
    """An open video file. Both methods raise Unusable for a file that turns out to be damaged."""

    def times(self) -> np.ndarray:
        """float64 (N, 2): when each frame is first shown and when no more, seconds, in the order they are shown in."""

    def frames(self, indices: np.ndarray) -> np.ndarray:
        """uint8 RGB (T, H, W, 3): the frames of ascending indices, upright as a player shows them; squares, if so opened."""


def not_opened(path: str) -> Unusable:
    """Why a file that a decoder does not open is unusable: by its first bytes, and by the streams that FFmpeg lists."""
    with open(path, "rb") as file:
        head = file.read(256)
    try:
        with av.open(path) as container:
            kinds = {stream.type for stream in container.streams}
            decoders = [stream.codec_context for stream in container.streams.video]
    except (av.FFmpegError, ValueError):
        kinds, decoders = set(), []
    if kinds and kinds <= {"audio", "subtitle"}:  # a header that is cut off has streams of no known type
        return no_video_stream()
    if not _is_video_header(head):
        return not_a_video()
    if decoders and not any(decoders):
        return Unusable("no_decoder", "the video is in a coding that no decoder here knows")
    return Unusable("truncated", "the file begins as a video but cannot be opened: truncated or damaged")


def not_a_video() -> Unusable:
    """Content of another kind."""
    return Unusable("not_a_video", "the content is no video that can be decoded")


def no_video_stream() -> Unusable:
    """A file with sound or subtitles alone."""
    return Unusable("no_video_stream", "the file holds no video stream")


def broken_off() -> Unusable:
    """A file of which a wanted frame cannot be decoded."""
    return Unusable("truncated", "decoding broke off: the file is truncated or damaged")


def _is_video_header(head: bytes) -> bool:
    """Whether a file begins as MP4 or MOV, Matroska or WebM, AVI, FLV, MPEG-PS, MPEG-TS, Ogg or ASF do."""
    return (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
        or head.startswith((b"\x1aE\xdf\xa3", b"FLV\x01", b"\x00\x00\x01\xba", b"OggS", b"0&\xb2u"))
        or (head.startswith(b"RIFF") and head[8:12] == b"AVI ")
        or (head[:1] == b"G" and head[188:189] == b"G")
    )
