"""Videos by torchcodec, an optional extra: it decodes with the FFmpeg libraries of the machine.

Which frames there are, and when each is shown, comes from the packets, as for PyAV; so do the reasons why a file is
unusable. Frames of a file that stores no times (AVI) are PyAV's: torchcodec finds a frame by its time alone.
"""

from __future__ import annotations

import av
import numpy as np
from torchcodec.decoders import VideoDecoder

from components.ingest.readers.contracts import broken_off
from components.ingest.readers.pyav_reader import PyAvReader

_TIME = 1e-3  # seconds that a frame may lie from where its packet said


class TorchcodecReader:
    """A `VideoReader`."""

    def __init__(self, path: str, frame_size: int | None) -> None:
        self._size = frame_size
        self._packets = PyAvReader(path, frame_size)
        try:
            self._decoder = VideoDecoder(
                path, stream_index=self._packets.stream, dimension_order="NHWC", num_ffmpeg_threads=1
            )
        except (RuntimeError, ValueError) as error:
            raise broken_off() from error

    def times(self) -> np.ndarray:
        return self._packets.times()

    def frames(self, indices: np.ndarray) -> np.ndarray:
        if not self._packets.timed:
            return self._packets.frames(indices)
        try:
            found = self._decoder.get_frames_at(indices.tolist())
            first = self._decoder.get_frame_at(0).pts_seconds
        except (RuntimeError, IndexError, ValueError) as error:
            raise broken_off() from error
        begins = self.times()[indices, 0]
        if np.abs(found.pts_seconds.numpy() - first - begins).max() > _TIME:
            raise broken_off()
        return np.stack([self._pixels(pixels) for pixels in found.data.numpy()])

    def _pixels(self, pixels: np.ndarray) -> np.ndarray:
        if not self._size:
            return pixels
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        return frame.reformat(width=self._size, height=self._size, interpolation="BICUBIC").to_ndarray()


open_video = TorchcodecReader
