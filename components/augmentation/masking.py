"""Which frames of an easy sample are masked: whole temporal patches, chosen at random."""

from __future__ import annotations

import numpy as np

FRAMES_PER_PATCH = 2  # Qwen2-VL and Qwen2.5-VL see two frames as one: half a patch would not hide it


def masked_frames(count: int, fraction: float, draw: np.random.Generator) -> tuple[int, ...]:
    """The masked ones of `count` frames, ascending, from 0: a random `fraction` of the video's temporal patches.

    The number of patches is rounded to the nearest, half up; at least one is masked and at least one is left, so that a
    video of a single patch has none. From the same draw a larger fraction masks the same patches and others. The last of
    an odd number of frames is a patch of its own.
    """
    patches = -(-count // FRAMES_PER_PATCH)
    order = draw.permutation(patches)
    masked = min(max(int(fraction * patches + 0.5), 1), patches - 1) if fraction > 0 else 0
    return tuple(frame for frame in range(count) if frame // FRAMES_PER_PATCH in order[:masked])
