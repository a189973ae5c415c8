"""The size that frames are resized to: a pure function of the video's own size."""

from __future__ import annotations

import math
from collections.abc import Callable

from components.shared.schemas import Record

_PATCH = 28 * 28  # pixels of one vision token
_LONGEST_RATIO = 200
_SLACK = 1.05  # how far the bound above stays from the bound below
_FRAMES_A_TOKEN = 2


class FrameSize(Record):
    """Either `fixed`, or the video's own shape, brought between `min_pixels` and `max_pixels` a frame.

    The rule is that of qwen-vl-utils (`fetch_video`, `smart_resize`), and so are the defaults: sides are multiples of
    `factor`, the shape is kept as nearly as that allows, and all frames together have at most 2 * `total_pixels`
    pixels, unless that would press them below `min_pixels`.
    """

    fixed: tuple[int, int] | None = None  # height and width, pixels
    min_pixels: int = 128 * _PATCH
    max_pixels: int = 768 * _PATCH
    total_pixels: int = int(128_000 * _PATCH * 0.9)
    factor: int = 28  # pixels a side of one vision token

    def of(self, height: int, width: int, frames: int) -> tuple[int, int]:
        """Height and width of `frames` frames that are `height` x `width` pixels. Raises ValueError for too long a shape."""
        if self.fixed:
            return self.fixed
        if max(height, width) > _LONGEST_RATIO * min(height, width):
            raise ValueError(f"{height} x {width} pixels: one side is more than {_LONGEST_RATIO} times the other")
        most = max(min(self.max_pixels, self.total_pixels / frames * _FRAMES_A_TOKEN), int(self.min_pixels * _SLACK))
        tall, wide = (max(self.factor, round(side / self.factor) * self.factor) for side in (height, width))
        if tall * wide > most:
            shrink = math.sqrt(height * width / most)
            return self._multiple(height / shrink, math.floor), self._multiple(width / shrink, math.floor)
        if tall * wide < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (height * width))
            return self._multiple(height * grow, math.ceil), self._multiple(width * grow, math.ceil)
        return tall, wide

    def _multiple(self, side: float, rounded: Callable[[float], int]) -> int:
        return max(self.factor, rounded(side / self.factor) * self.factor)
