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


def bootstrap_ratio(
    ratio: Ratio, clusters: Sequence[str], *, confidence: float, resamples: int, rng: np.random.Generator
) -> Estimate:
    """A ratio of sums with its percentile interval. `clusters` (Q,) names each question's video."""
    return _bootstrap([ratio], clusters, confidence, resamples, rng)


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
    return _bootstrap([after, before], clusters, confidence, resamples, rng)


def _bootstrap(
    ratios: list[Ratio], clusters: Sequence[str], confidence: float, resamples: int, rng: np.random.Generator
) -> Estimate:
    """The first ratio, minus the second if there are two."""
    _, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    count = int(index.max()) + 1 if len(index) else 0
    pairs = [
        (_cluster_sums(ratio.numerators, index, count), _cluster_sums(ratio.denominators, index, count))
        for ratio in ratios
    ]
    value = _difference(
        [top.sum(keepdims=True) for top, _ in pairs], [bottom.sum(keepdims=True) for _, bottom in pairs]
    )
    if np.isnan(value[0]):
        return Estimate(None, None, None)
    if count < 2:
        return Estimate(float(value[0]), None, None)
    drawn = []
    block = max(1, _DRAWS_AT_ONCE // count)
    for start in range(0, resamples, block):
        draws = rng.integers(count, size=(min(block, resamples - start), count))
        drawn.append(
            _difference(
                [top[draws].sum(axis=1) for top, _ in pairs], [bottom[draws].sum(axis=1) for _, bottom in pairs]
            )
        )
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(np.concatenate(drawn), [tail, 1 - tail])
    return Estimate(float(value[0]), float(low), float(high))


def _cluster_sums(values: ArrayLike, index: NDArray[np.intp], count: int) -> NDArray[np.float64]:
    return np.bincount(index, np.asarray(values, dtype=np.float64), count).astype(np.float64)


def _difference(tops: list[NDArray[np.float64]], bottoms: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """NaN where a denominator is 0: such a draw has no figure and does not enter the interval."""
    figures = [
        np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom != 0)
        for top, bottom in zip(tops, bottoms, strict=True)
    ]
    return figures[0] - figures[1] if len(figures) == 2 else figures[0]
