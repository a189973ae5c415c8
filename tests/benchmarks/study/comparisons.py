"""Figures over seeds and questions: means, intervals that know both, and paired tests between arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_rel

from components.shared.context import generator
from components.shared.statistics import Estimate
from tests.benchmarks.study.records import Evaluated, Questions, RunRecord

At = Literal["responses", "updates"]
Runs = Mapping[str, Sequence[RunRecord]]  # arm -> its runs, by seed
RESAMPLES, CONFIDENCE = 10_000, 0.95


@dataclass(frozen=True)
class Difference:
    """`after - before` with its interval, and the p-value of the paired t-test over seeds (None for fewer than two)."""

    estimate: Estimate
    p: float | None
    by_seed: tuple[float, ...]

    @property
    def verdict(self) -> str:
        """What the interval and the test say together: with few seeds a bootstrap over them alone is too sure."""
        low, high = self.estimate.low, self.estimate.high
        if low is None or high is None or self.p is None or self.p >= 1 - CONFIDENCE:
            return "not decided at this scale"
        return "holds" if low > 0 else "reversed" if high < 0 else "not decided at this scale"


def evaluated(run: RunRecord, at: At) -> Evaluated | None:
    """The run's answers at the budget of responses, or at that of updates."""
    return run.at_responses if at == "responses" else run.at_updates


def table(runs: Sequence[RunRecord], level: str, at: At, figure: str = "sampled") -> NDArray[np.float64]:
    """A figure of each run (rows) and question (columns)."""
    rows = [getattr(found.levels[level], figure) for run in runs if (found := evaluated(run, at)) is not None]
    return np.array(rows, dtype=np.float64)


def mean(
    runs: Sequence[RunRecord], questions: Questions, level: str, at: At = "responses", figure: str = "sampled"
) -> Estimate:
    """A figure's mean over seeds and questions with its interval."""
    return two_way(table(runs, level, at, figure), questions.videos[level], f"{level} {figure}")


def difference(
    after: Sequence[RunRecord],
    before: Sequence[RunRecord],
    questions: Questions,
    level: str,
    at: At = "responses",
    figure: str = "sampled",
) -> Difference:
    """The paired difference over the seeds that both arms have, and the same questions."""
    seeds = sorted({run.seed for run in after} & {run.seed for run in before})
    one, two = ([run for seed in seeds for run in runs if run.seed == seed] for runs in (after, before))
    gaps = table(one, level, at, figure) - table(two, level, at, figure)
    by_seed = gaps.mean(1)
    equal = len(seeds) > 1 and np.ptp(by_seed) == 0  # no variance: the t-test is not defined
    p = None
    if len(seeds) > 1 and not equal:
        p = float(ttest_rel(table(one, level, at, figure).mean(1), table(two, level, at, figure).mean(1)).pvalue)
    estimate = two_way(gaps, questions.videos[level], f"{level} {figure} difference")
    return Difference(estimate, p, tuple(float(value) for value in by_seed))


def two_way(values: NDArray[np.float64], videos: Sequence[str], purpose: str) -> Estimate:
    """The mean of `values` (seeds, questions) with its interval over draws of seeds and, independently, of videos.

    The pigeonhole bootstrap (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1, 2007): a training run's
    luck and a video's difficulty are both drawn anew. Clusters of videos keep their questions together.
    """
    names, index = np.unique(np.asarray(videos, dtype=str), return_inverse=True)
    seeds, count = len(values), len(names)
    sums = np.stack([np.bincount(index, row, count) for row in values])
    sizes = np.bincount(index, minlength=count)
    rng = generator(0, 0, purpose, "two-way bootstrap")
    seed_weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES)
    video_weights = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    totals = ((seed_weights @ sums) * video_weights).sum(1)
    drawn = totals / (seeds * (video_weights @ sizes))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Estimate(float(values.mean()), float(low), float(high))
