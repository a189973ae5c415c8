"""The result of a run in one or two plain sentences."""

from __future__ import annotations

from collections.abc import Mapping

from components.report.summary import Compared, LevelSummary, PromotionSummary
from components.shared.schemas import PROMOTION_SPLIT
from components.shared.scores import OVERALL

MINUS = "\N{MINUS SIGN}"


def signed(points: float, digits: int = 1) -> str:
    """A number with its sign, such as +22.1 or, with a real minus sign, −3.0; a rounded zero has none."""
    text = f"{abs(round(points, 9)):.{digits}f}"  # 28.749999999999996 is 28.75
    if float(text) == 0:
        return text
    return f"{'+' if points > 0 else MINUS}{text}"


def plain(points: float, digits: int = 1) -> str:
    """A number with a real minus sign."""
    return signed(points, digits).removeprefix("+")


def verdict(evaluation: Mapping[str, LevelSummary], promotion: PromotionSummary, confidence: float) -> str:
    """What became of the scores on the held-out levels, the first level in full, and of the candidate."""
    names = [name for name in evaluation if name not in (OVERALL, PROMOTION_SPLIT)] or list(evaluation)
    sentences = [_full(names[0], evaluation[names[0]], confidence)]
    others = [_short(name, evaluation[name]) for name in names[1:]]
    if others:
        sentences.append("; ".join(others) + ".")
    if greedy := _greedy({name: evaluation[name] for name in names}):
        sentences.append(greedy)
    return " ".join([*sentences, _promoted(promotion, confidence)])


def _promoted(promotion: PromotionSummary, confidence: float) -> str:
    rival = f"champion version {promotion.champion_before}" if promotion.champion_before else "the base policy"
    change = promotion.difference
    if change.value is None:
        return f"Promoted: no, because {promotion.reason}."
    interval = "no interval, too few videos"
    if change.low is not None and change.high is not None:
        interval = f"{100 * confidence:g} % interval {plain(100 * change.low)} to {plain(100 * change.high)}"
    figures = f"{signed(100 * change.value)} points, {interval}"
    where = "on the promotion questions"
    if promotion.promoted:
        return f"Promoted: yes, because {where} it beat {rival} ({figures})."
    if change.low is not None and change.low > 0:
        return f"Promoted: no, although {where} it beat {rival} ({figures}): {promotion.reason}."
    return f"Promoted: no, because {where} it did not beat {rival} beyond doubt ({figures})."


def _full(name: str, level: LevelSummary, confidence: float) -> str:
    scores = level.figures["sampled"]
    before, after, difference = _percentages(scores, name)
    change = f"{signed(difference)} points"
    if (bounds := _bounds(scores)) is not None:
        change += f", {100 * confidence:g} % interval {plain(bounds[0])} to {plain(bounds[1])}"
    metric = level.metric.replace("_or_", " or ")
    return f"{name} {metric} {_moved(scores)} from {plain(before)} % to {plain(after)} % ({change})."


def _short(name: str, level: LevelSummary) -> str:
    scores = level.figures["sampled"]
    before, after, change = _percentages(scores, name)
    return f"{name} {_moved(scores)} from {plain(before)} % to {plain(after)} % ({signed(change)})"


def _greedy(levels: Mapping[str, LevelSummary]) -> str:
    """What became of greedy answers, level by level, those that moved alike together; empty if there are none."""
    by_change: dict[str, list[str]] = {}
    for name, level in levels.items():
        scores = level.figures.get("greedy")
        if scores is None or scores.before.value is None or scores.after.value is None:
            continue
        change = {"rose": "a rise", "fell": "a fall"}.get(_moved(scores), "no change beyond chance")
        figures = f"{plain(100 * scores.before.value)} to {plain(100 * scores.after.value)} %"
        by_change.setdefault(change, []).append(f"{name} ({figures})")
    told = "; ".join(f"{change} in {', '.join(names)}" for change, names in by_change.items())
    return f"Greedy answers: {told}." if told else ""


def _percentages(scores: Compared, name: str) -> tuple[float, float, float]:
    """Before, after, and their difference."""
    before, after, difference = (
        100 * _value(item.value, name) for item in (scores.before, scores.after, scores.difference)
    )
    return before, after, difference


def _moved(scores: Compared) -> str:
    """Rose or fell if the interval of the difference is on one side of 0, else words that promise nothing."""
    bounds = _bounds(scores)
    if bounds is not None and bounds[0] > 0:
        return "rose"
    if bounds is not None and bounds[1] < 0:
        return "fell"
    return "moved within chance"


def _bounds(scores: Compared) -> tuple[float, float] | None:
    low, high = scores.difference.low, scores.difference.high
    return None if low is None or high is None else (100 * low, 100 * high)


def _value(value: float | None, name: str) -> float:
    if value is None:
        raise ValueError(f"scores of level {name}: sampled has no value; was the level evaluated without any answers?")
    return value
