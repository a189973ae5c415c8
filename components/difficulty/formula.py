"""Difficulty and its replay buffer, as in DeepVideo-R1 (arXiv 2506.07464), difficulty-aware data augmentation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeVar

Entry = TypeVar("Entry")


def normalised_mean(rewards: Sequence[float], largest: float) -> float:
    """The mean of a group's rewards, divided by the largest sum its task can earn: in [0, 1]."""
    return math.fsum(rewards) / (len(rewards) * largest)


def reference_reward(
    buffer: Sequence[float],
    round_means: Sequence[float],
    reference: Literal["relative", "absolute"],
    absolute_reference: float,
) -> float:
    """What the round's samples are compared with, in [0, 1].

    relative: the mean of the buffer as it was when the round began; the round's own mean while the buffer is empty.
    absolute (the paper's ablation without a buffer; it gives no formula): `absolute_reference`, the same in every round,
    so that more and more samples are easy while the policy learns.
    """
    if reference == "absolute":
        return absolute_reference
    values = buffer or round_means
    return math.fsum(values) / len(values)


def delta(reference: float, mean_reward: float) -> float:
    """Difficulty in [-1, 1]: above 0 the sample is harder than the reference, below 0 easier."""
    return reference - mean_reward


def updated_buffer(buffer: Sequence[Entry], new: Sequence[Entry], window: int) -> list[Entry]:
    """The buffer after the round: the last `window` of the old entries followed by the round's, in its seeded order."""
    return [*buffer, *new][-window:]
