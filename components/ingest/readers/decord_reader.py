"""Videos by decord, the default: it seeks, and scales while it decodes."""

from __future__ import annotations

import decord
import numpy as np
from decord._ffi.base import DECORDLimitReachedError

from components.ingest.readers.contracts import broken_off, not_opened

_NO_SUBSTITUTES = 1e-9  # fraction of frames that decord may put others in the place of; 0 would mean any
_NO_TIME = -1e15  # seconds; FFmpeg's mark for a time that is not known lies far below
_AS_IT_IS = -1
_ERRORS = (RuntimeError, AssertionError, decord.DECORDError, DECORDLimitReachedError)


class DecordReader:
    """A `VideoReader`."""

    def __init__(self, path: str, frame_size: int | None) -> None:
        decord.logging.set_level(decord.logging.QUIET)
        side = frame_size or _AS_IT_IS
        try:
            self._reader = decord.VideoReader(path, decord.cpu(0), side, side, num_threads=1, fault_tol=_NO_SUBSTITUTES)
        except _ERRORS as error:
            raise not_opened(path) from error

    def times(self) -> np.ndarray:
        indices = np.arange(len(self._reader))
        if not len(indices):
            return np.zeros((0, 2))
        times = np.asarray(self._reader.get_frame_timestamp(indices), dtype=np.float64)
        if times[0, 0] < _NO_TIME:  # AVI stores no times: its frame rate is constant
            times = np.stack([indices, indices + 1], axis=1) / self._reader.get_avg_fps()
        return times

    def frames(self, indices: np.ndarray) -> np.ndarray:
        try:
            return self._reader.get_batch(indices).asnumpy()
        except _ERRORS as error:
            raise broken_off() from error


open_video = DecordReader
