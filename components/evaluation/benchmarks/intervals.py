"""How sure a figure is: intervals only where the resamples carry them, and one permutation test for all figures.

Videos are drawn with replacement, so a group that m of n videos belong to is absent from a resample with the chance
(1 - m / n)^n, about e^-m (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 17.7, has it for m = 1).
The mean over groups is undefined there, and such resamples are dropped: what is left describes other data than these.
Dropping a share d of the resamples moves each bound's level by at most d. So there is no interval where d may be above
`DROPPED`, bounded by the sum of the groups' chances; three equal groups then need five videos each. Drawing videos within each
group instead would always be defined, but most benchmarks' groups share videos, and a group of one would look certain.

Every figure is drawn with the same seed: figures that are the same have the same interval and p-value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.shared.context import generator
from components.shared.statistics import Mix, bootstrap_mix, permutation_p_value

CONFIDENCE, RESAMPLES = 0.95, 2000
DROPPED = 0.01  # share of the resamples that may lack a group
_SWAPS = 10 * RESAMPLES  # of the permutation test; all of them are tried where there are no more


def estimate(mix: Mix, videos: Sequence[str], seed: int) -> dict[str, Any]:
    """`value`, `low` and `high` of a weighted sum of ratios; `no_interval` says why there are no bounds, else empty.

    `videos` (Q,) names each question's video.
    """
    rng = generator(seed, 0, "figures", "benchmark interval")
    found = asdict(bootstrap_mix(mix, videos, confidence=CONFIDENCE, resamples=RESAMPLES, rng=rng))
    reason = ""
    if found["value"] is not None and (lacking := share_without_a_group(mix, videos)) > DROPPED:
        what = "a group" if len(mix) > 1 else "every scored item"
        reason = f"up to {min(lacking, 1):.0%} of the resamples of videos lack {what}: too few videos"
        found |= {"low": None, "high": None}
    return found | {"no_interval": reason}


def share_without_a_group(mix: Mix, videos: Sequence[str]) -> float:
    """A bound of the share of resamples of videos that lack one of the mix's groups, a group being a ratio's questions."""
    index, count = _clusters(videos)
    groups = {frozenset(index[np.asarray(ratio.denominators) != 0].tolist()) for _, ratio in mix}
    return float(sum((1 - len(group) / count) ** count for group in groups)) if count else 0.0


def p_value(after: Mix, before: Mix, videos: Sequence[str], seed: int) -> float | None:
    """The chance of a difference at least as large, either way, if it were all the same which policy gave which answers.

    Both policies' answers to a video are swapped together (paired permutation test). Every way of swapping is tried
    where there are few, so that the value is exact, as of Fisher, "The Design of Experiments", 1935, section 21; else
    ways are drawn. Row i of `after` and `before` is the same group. None where the difference is undefined.
    """
    if (exact := _exact(after, before, videos)) is not None:
        return exact
    rng = generator(seed, 0, "figures", "benchmark permutation")
    return permutation_p_value(after, before, videos, resamples=_SWAPS, rng=rng)


def _exact(after: Mix, before: Mix, videos: Sequence[str]) -> float | None:
    """The share of all swaps with a difference as large; None where there are too many, or it is undefined.

    A video on which both policies agree in every sum changes nothing when it is swapped, and is left alone.
    """
    index, count = _clusters(videos)
    new, old = (np.array([_sums(mix, part, index, count) for part in _PARTS]) for mix in (after, before))
    moving = np.flatnonzero((new != old).any(axis=(0, 1)))
    if 2 ** len(moving) > _SWAPS:
        return None
    swapped = (np.arange(2 ** len(moving)) >> np.arange(len(moving))[:, None] & 1).astype(np.float64)
    moved = (old - new)[:, :, moving] @ swapped  # (2, groups, swaps)
    weights = np.array([weight for weight, _ in after])
    with np.errstate(divide="ignore", invalid="ignore"):
        tops, bottoms = new.sum(-1, keepdims=True) + moved
        rival_tops, rival_bottoms = old.sum(-1, keepdims=True) - moved
        differences = weights @ (tops / bottoms - rival_tops / rival_bottoms)
    if not np.isfinite(differences[0]):  # as observed: nothing swapped
        return None
    return float(np.mean(np.abs(differences) >= abs(differences[0]) - 1e-12))


_PARTS = ("numerators", "denominators")


def _sums(mix: Mix, part: str, index: NDArray[np.intp], count: int) -> NDArray[np.float64]:
    """Of each ratio one part, summed by video: (groups, videos)."""
    return np.array([np.bincount(index, np.asarray(getattr(ratio, part), dtype=np.float64), count) for _, ratio in mix])


def _clusters(videos: Sequence[str]) -> tuple[NDArray[np.intp], int]:
    """Each question's video as a number, and how many videos there are."""
    names, index = np.unique(np.asarray(videos, dtype=str), return_inverse=True)
    return index, len(names)
