"""Bootstrap intervals for figures over questions that share videos.

Answers about one video are not independent, so videos are drawn, each with all its questions (cluster bootstrap:
Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8; percentile: section 5.3). Every
figure is a ratio of sums, sum(numerators) / sum(denominators), recomputed on each draw: with denominators of 1 a mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_DRAWS_AT_ONCE = 1 << 21  # draws of a cluster that are held in memory together


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval. `value` is None where undefined, the bounds also with fewer than two clusters."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Ratio:
    """sum(numerators) / sum(denominators) over questions, both (Q,); a question with denominator 0 is left out."""

    numerators: ArrayLike
    denominators: ArrayLike

    @staticmethod
    def mean(values: ArrayLike) -> Ratio:
        """The mean of `values` (Q,)."""
        return Ratio(values, np.ones(len(np.asarray(values))))


Mix = Sequence[tuple[float, Ratio]]  # a weighted sum of ratios, such as the mean of several groups' means


def bootstrap_ratio(
    ratio: Ratio, clusters: Sequence[str], *, confidence: float, resamples: int, rng: np.random.Generator
) -> Estimate:
    """A ratio of sums with its percentile interval. `clusters` (Q,) names each question's video."""
    return bootstrap_mix([(1.0, ratio)], clusters, confidence=confidence, resamples=resamples, rng=rng)


def bootstrap_difference(
    after: Ratio,
    before: Ratio,
    clusters: Sequence[str],
    *,
    confidence: float,
    resamples: int,
    rng: np.random.Generator,
) -> Estimate:
    """`after - before`, paired: both are recomputed on the same drawn videos. Row q of both is the same question."""
    mix = [(1.0, after), (-1.0, before)]
    return bootstrap_mix(mix, clusters, confidence=confidence, resamples=resamples, rng=rng)


def bootstrap_mix(
    mix: Mix, clusters: Sequence[str], *, confidence: float, resamples: int, rng: np.random.Generator
) -> Estimate:
    """A weighted sum of ratios over the same questions, all recomputed on each draw of videos."""
    sums, weights = _sums(mix, clusters)
    count = sums.shape[-1]
    value = float(_combined(sums.sum(-1, keepdims=True), weights)[0])
    if np.isnan(value):
        return Estimate(None, None, None)
    if count < 2:
        return Estimate(value, None, None)
    drawn = []
    block = max(1, _DRAWS_AT_ONCE // (count * len(mix)))
    for start in range(0, resamples, block):
        draws = rng.integers(count, size=(min(block, resamples - start), count))
        drawn.append(_combined(sums[:, :, draws].sum(-1), weights))
    defined = np.concatenate(drawn)
    defined = defined[~np.isnan(defined)]
    if not len(defined):
        return Estimate(value, None, None)
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


def permutation_p_value(
    after: Mix, before: Mix, clusters: Sequence[str], *, resamples: int, rng: np.random.Generator
) -> float | None:
    """The chance of a difference at least as large, either way, if it were all the same which policy gave which answers.

    Both policies' answers to a video are swapped together, a coin for each video (paired permutation test, with the
    correction of Phipson and Smyth 2010: never 0). None where the difference is undefined.
    """
    new, weights = _sums(after, clusters)
    old, _ = _sums(before, clusters)
    observed = float(
        (_combined(new.sum(-1, keepdims=True), weights) - _combined(old.sum(-1, keepdims=True), weights))[0]
    )
    if np.isnan(observed):
        return None
    as_large, block = 0, max(1, _DRAWS_AT_ONCE // max(1, new.shape[-1]))
    for start in range(0, resamples, block):
        swapped = rng.integers(2, size=(new.shape[-1], min(block, resamples - start))).astype(np.float64)
        moved = (old - new) @ swapped
        difference = _combined(new.sum(-1, keepdims=True) + moved, weights) - _combined(
            old.sum(-1, keepdims=True) - moved, weights
        )
        as_large += int(np.sum(np.abs(difference) >= abs(observed) - 1e-12))
    return (as_large + 1) / (resamples + 1)


def _sums(mix: Mix, clusters: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Numerators and denominators (2, ratios, clusters), summed within each cluster; and the weights (ratios,)."""
    _, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    count = int(index.max()) + 1 if len(index) else 0
    tops = [_cluster_sums(ratio.numerators, index, count) for _, ratio in mix]
    bottoms = [_cluster_sums(ratio.denominators, index, count) for _, ratio in mix]
    return np.array([tops, bottoms]), np.array([weight for weight, _ in mix])


def _cluster_sums(values: ArrayLike, index: NDArray[np.intp], count: int) -> NDArray[np.float64]:
    return np.bincount(index, np.asarray(values, dtype=np.float64), count).astype(np.float64)


def _combined(sums: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weighted sum of ratios (draws,) of sums (2, ratios, draws). NaN where a denominator is 0: no figure there."""
    top, bottom = sums
    return weights @ np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom != 0)
