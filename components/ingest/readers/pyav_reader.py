"""Videos by PyAV, FFmpeg's own libraries of the day: for files that decord, no longer maintained, cannot read."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from components.ingest.readers.contracts import broken_off, not_a_video, not_opened


class PyAvReader:
    """A `VideoReader`. Times come from the packets, without decoding; frames by a seek to the key frame before each."""

    def __init__(self, path: str, frame_size: int | None) -> None:
        self._size = frame_size
        try:
            self._container = av.open(path)
        except av.FFmpegError as error:
            raise not_opened(path) from error
        if self._container.format.name.endswith(("_pipe", "image2")):  # FFmpeg plays pictures too
            raise not_a_video()
        pictures = [stream for stream in self._container.streams.video if not _is_cover(stream)]
        if not pictures or pictures[0].codec_context is None:
            raise not_opened(path)
        self._stream: Any = pictures[0]  # what PyAV types as absent is there in a stream that can be read
        self._stream.thread_type, self._stream.codec_context.thread_count = "NONE", 1
        try:
            found: list[Any] = [packet for packet in self._container.demux(self._stream) if packet.size]
        except av.FFmpegError as error:
            raise broken_off() from error
        if len(found) < self._stream.frames:  # the index names more: what was cut off is not there, and no error
            raise broken_off()
        packets = [packet for packet in found if not packet.is_discard]
        # AVI stores no times: those that FFmpeg guesses are wrong where frames are not stored in the order they are shown in
        self.timed = self._container.format.name != "avi" and all(packet.pts is not None for packet in packets)
        packets.sort(key=lambda packet: packet.pts if self.timed else 0)
        self._pts = [packet.pts if self.timed else place for place, packet in enumerate(packets)]
        self._last = packets[-1].duration or 0 if packets else 0
        keyed = zip(self._pts, packets, strict=True) if self.timed else ()
        self._keys = [pts for pts, packet in keyed if packet.is_keyframe]
        self._frames: Iterator[Any] = iter(())
        self._at: int | None = None  # of the frame decoded last

    @property
    def stream(self) -> int:
        """The video stream's place among the file's streams."""
        return int(self._stream.index)

    def times(self) -> np.ndarray:
        begins = np.array(self._pts, dtype=np.float64)
        if not self.timed:  # then the frame rate is constant
            return np.stack([begins, begins + 1], axis=1) / float(self._stream.average_rate)
        ends = np.append(begins[1:], begins[-1:] + self._last)
        # from the first frame on, as decord counts
        return (np.stack([begins, ends], axis=1) - begins[:1]) * float(self._stream.time_base)

    def frames(self, indices: np.ndarray) -> np.ndarray:
        try:
            return np.stack([self._pixels(self._frame(self._pts[index])) for index in indices.tolist()])
        except (av.FFmpegError, EOFError, StopIteration, ValueError) as error:  # ValueError: frames of differing size
            raise broken_off() from error

    def _frame(self, wanted: int) -> Any:
        """The frame of a time. Raises StopIteration if it cannot be decoded."""
        key = bisect.bisect_right(self._keys, wanted) - 1
        if self._at is None or self._at >= wanted or (key >= 0 and self._keys[key] > self._at):
            self._seek(self._keys[key] if key >= 0 else None)
        frame = self._next()
        if self._at is not None and self._at > wanted:  # the container's index was wrong
            self._seek(None)
            frame = self._next()
        while self._at is not None and self._at < wanted:
            frame = self._next()
        if self._at != wanted or frame.is_corrupt:
            raise StopIteration
        return frame

    def _seek(self, key: int | None) -> None:
        """To a key frame; without times, and for None, to the first frame."""
        start = self._pts[0] if key is None or not self.timed else key
        self._container.seek(start if self.timed else 0, stream=self._stream)
        self._frames, self._at = self._container.decode(self._stream), None

    def _next(self) -> Any:
        frame = next(self._frames)
        if self.timed:
            self._at = frame.pts
        else:
            self._at = 0 if self._at is None else self._at + 1
        return frame

    def _pixels(self, frame: Any) -> np.ndarray:
        turns = round(frame.rotation / 90) % 4
        scaled = frame.reformat(width=self._size, height=self._size, format="rgb24", interpolation="BICUBIC")
        return np.rot90(scaled.to_ndarray(), turns)


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


open_video = PyAvReader
