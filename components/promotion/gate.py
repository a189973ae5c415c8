"""Whether a candidate may become the champion, from scores alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from components.promotion.settings import PromotionSettings
from components.shared.context import generator
from components.shared.scores import Answered, by_level, level_difference, metric_name, paired
from components.shared.statistics import Estimate

_DRAWS = "bootstrap sampled difference"  # those of evaluation's own difference: of one figure there is one interval


@dataclass(frozen=True)
class Verdict:
    """`difference` is the candidate's sampled accuracy minus the champion's on the promotion split.

    Every comparison is a sentence, in `support` or, if it speaks against the candidate, in `objections`.
    """

    support: tuple[str, ...]
    objections: tuple[str, ...]
    difference: Estimate


def judge(
    candidate: Sequence[Answered],
    champion: Sequence[Answered],
    base: Sequence[Answered],
    settings: PromotionSettings,
    seed: int,
    rival: str,
) -> Verdict:
    """Compare a candidate's answers with the champion's on the promotion split, with the base's on every other level.

    Nothing objects if there the paired difference's interval lies above zero, and if no other level lost more
    than `max_level_loss` points. `rival` names the champion in the sentences.

    Without that split, nothing can be compared: that is an objection. Raises ValueError if answers cannot be paired.
    """
    levels, split = by_level(candidate), settings.promotion_split
    support, objections = [], []
    difference, figure = Estimate(None, None, None), f"{split}: the dataset has no such split with answers in it"
    if split in levels:
        difference = _difference(levels[split], champion, settings, seed)
        figure = f"{split}: {metric_name(levels[split])} {_points(difference)} against {rival}"
    if difference.value is None:
        objections.append(figure)
    elif difference.low is None:
        objections.append(f"{figure}: no interval, there are fewer than two videos")
    elif difference.low <= 0:
        objections.append(f"{figure}: not above zero with its interval")
    else:
        support.append(f"{figure}: above zero with its interval")
    for level, rows in levels.items():
        if level == split:
            continue
        change = _difference(rows, base, settings, seed)
        figure = f"{level}: {metric_name(rows)} {_points(change)} against the base policy"
        if change.value is not None and -100 * change.value > settings.max_level_loss:
            objections.append(f"{figure}: more than {settings.max_level_loss:g} points worse")
        else:
            support.append(f"{figure}: not more than {settings.max_level_loss:g} points worse")
    return Verdict(tuple(support), tuple(objections), difference)


def _difference(
    rows: Sequence[Answered], others: Sequence[Answered], settings: PromotionSettings, seed: int
) -> Estimate:
    level = rows[0].level
    same_level = [answered for answered in others if answered.level == level]
    return level_difference(
        "sampled",
        rows,
        paired([answered.sample_id for answered in rows], same_level),
        confidence=settings.confidence,
        resamples=settings.bootstrap_resamples,
        rng=generator(seed, 0, level, _DRAWS),
    )


def _points(estimate: Estimate) -> str:
    """`+12.3 points [+5.1, +19.0]`."""
    figures = [100 * figure for figure in (estimate.value, estimate.low, estimate.high) if figure is not None]
    interval = f" [{figures[1]:+.1f}, {figures[2]:+.1f}]" if len(figures) == 3 else ""
    return f"{figures[0]:+.1f} points{interval}"
