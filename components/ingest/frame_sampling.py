"""Which frames of a video are kept: pure functions of its frames' times."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from components.shared.schemas import Record

Indices = Literal["linspace", "stride", "segment_centres"]
Clip = tuple[float, float]  # seconds: begin included, end not

_SECONDS = r"\d+(?:\.\d+)?"
_FRAGMENT = re.compile(rf"(?P<file>.+)#t=(?P<begin>{_SECONDS})?(?:,(?P<end>{_SECONDS}))?", re.DOTALL)


class FrameSampling(Record):
    """Uniformly `num_frames` of the frames that there are, or, with `fps` above 0, as many as that rate gives, if fewer
    (but `min_frames`, where the video has them).

    The count is even and at most the number of frames, for the models take frames in pairs. `indices` says which:
    `linspace` from the first to the last (qwen-vl-utils), every so many from the first (`stride`, LongVideoBench's loader),
    or the centres of segments of equal length (`segment_centres`, MVBench's). `include_last` puts the last frame in the
    place of the last one chosen (Video-MMMU shows its question there).
    """

    num_frames: Annotated[int, Field(ge=2, multiple_of=2)]
    fps: Annotated[float, Field(ge=0)] = 0.0
    min_frames: Annotated[int, Field(ge=2)] = 2
    indices: Indices = "linspace"
    include_last: bool = False

    def choose(self, times: np.ndarray) -> np.ndarray:
        """Ascending indices, int64 (T,), into `times` (N, 2): begin and end of each frame in seconds. N is at least 2."""
        total = len(times)
        wanted = self.num_frames
        if self.fps:
            wanted = min(wanted, max(self.min_frames, int((times[-1, 1] - times[0, 0]) * self.fps + 1e-6)))
        count = min(wanted, total) // 2 * 2
        chosen = _CHOICES[self.indices](total, count)
        if self.include_last:
            chosen[-1] = total - 1
        return chosen


def _linspace(total: int, count: int) -> np.ndarray:
    return np.minimum(np.rint(np.linspace(0, total - 1, count)).astype(np.int64), total - 1)


def _stride(total: int, count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int64) * (total // count)


def _segment_centres(total: int, count: int) -> np.ndarray:
    return ((np.arange(count) + 0.5) * (total / count)).astype(np.int64)


_CHOICES = {"linspace": _linspace, "stride": _stride, "segment_centres": _segment_centres}


def clip_of(name: str) -> tuple[str, Clip | None]:
    """A video's name as (file, clip): "a.mp4#t=5,7.5" is a.mp4 from second 5 to 7.5 (W3C Media Fragments, NPT).

    Either bound may be absent: the file's begin or end. Raises ValueError if the clip would be empty.
    """
    found = _FRAGMENT.fullmatch(name)
    if not found or not (found["begin"] or found["end"]):
        return name, None
    clip = float(found["begin"] or 0), float(found["end"] or "inf")
    if clip[0] >= clip[1]:
        raise ValueError(f"{name!r} ends before it begins")
    return found["file"], clip


def within(times: np.ndarray, clip: Clip) -> np.ndarray:
    """The indices of the frames, of `times` (N, 2), that are first shown within a clip."""
    return np.flatnonzero((times[:, 0] >= clip[0] - 1e-6) & (times[:, 0] < clip[1] - 1e-6))
