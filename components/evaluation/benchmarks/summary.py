"""From scored items to a result: figures with intervals, by group, with what failed or is missing counted beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.evaluation.benchmarks.contracts import MAIN_FIGURE, Benchmark, BenchmarkError, Scored, Scoring
from components.evaluation.benchmarks.intervals import CONFIDENCE, estimate, p_value
from components.shared.schemas import Sample
from components.shared.statistics import Mix, Ratio

Path = tuple[str, ...]  # of a nested group: its name in each grouping
HEADLINE = "headline"


@dataclass(frozen=True)
class Item:
    """An item that should be answered. `scored` is None where it was not: `problem` says why."""

    sample: Sample
    scored: Scored | None
    problem: str = ""  # "missing", "error" or "needs a judge"
    judge_failed: bool = False


def summarise(
    benchmark: Benchmark,
    scoring: Scoring,
    items: Sequence[Item],
    name: str,
    *,
    allow_missing: bool,
    seed: int,
    remedy: str = "complete the file",
) -> dict[str, Any]:
    """The result as JSON: counts, the headline, every figure over all items, per group, and the mean over groups.

    Raises BenchmarkError where items are missing, failed or wait for a judge, unless `allow_missing`: each figure then
    has a second denominator, all items that should be answered, with 0 for what is missing (`over_expected`). `name`
    and `remedy` are for that message: what the responses come from, and what brings those that are missing or failed.
    """
    counts = _counts(items)
    if not items:
        raise BenchmarkError(f"{benchmark.name}: {name}: there is nothing to score")
    if counts["unscored"] and not allow_missing:
        names = [item.sample.id for item in items if item.scored is None][:3]
        remedies = [remedy] if counts["missing"] or counts["errors"] else []
        remedies += ["name a judge with --judge-url"] if counts["needs_judge"] else []
        raise BenchmarkError(
            f"{benchmark.name}: {name}: {counts['unscored']} of {counts['expected']} items have no score "
            f"({counts['missing']} missing, {counts['errors']} errors, {counts['needs_judge']} wait for a judge), such as "
            f"{', '.join(names)}: {', '.join(remedies)}, or aggregate what is there with --allow-missing"
        )
    groups = {}
    for grouping in benchmark.groupings:
        split = _split(items, (grouping,))
        groups[grouping] = {
            "groups": {path[0]: _figures(benchmark, rows, seed) for path, rows in split.items()},
            "macro": {figure: _mean_over(figure, items, (grouping,), seed) for figure in benchmark.figures},
        }
    return {
        "schema_version": 1,
        "benchmark": benchmark.name,
        "protocol": scoring.name,
        "protocol_version": scoring.version,
        "source": scoring.source,
        "fallbacks": list(scoring.fallbacks or ()),
        "official_size": benchmark.size,
        "complete_set": len(items) == benchmark.size,
        "counts": counts,
        HEADLINE: {"figure": MAIN_FIGURE, "mean_over": list(benchmark.headline) or ["items"]}
        | _mean_over(MAIN_FIGURE, items, benchmark.headline, seed),
        "overall": _figures(benchmark, items, seed),
        "groupings": groups,
        "confidence": CONFIDENCE,
    }


def compare(benchmark: Benchmark, after: Sequence[Item], before: Sequence[Item], seed: int) -> dict[str, Any]:
    """Paired differences `after - before` over the items that both have a score for, with intervals and p-values.

    The items of both are the same, in the same order.
    """
    pairs = [(a, b) for a, b in zip(after, before, strict=True) if a.scored is not None and b.scored is not None]
    new, old = [a for a, _ in pairs], [b for _, b in pairs]
    if not pairs:
        raise BenchmarkError(f"{benchmark.name}: the two files have no scored item in common")
    videos = [item.sample.video for item in new]
    figures: dict[str, Any] = {}
    wanted = [(name, name, ()) for name in benchmark.figures]
    for label, name, over in [(HEADLINE, MAIN_FIGURE, benchmark.headline), *wanted]:
        first, second = _mix(name, new, over), _mix(name, old, over)
        negative: Mix = [(-weight, ratio) for weight, ratio in second]
        figures[label] = estimate([*first, *negative], videos, seed) | {"p_value": p_value(first, second, videos, seed)}
    return {"items": len(pairs), "figures": figures}


def _counts(items: Sequence[Item]) -> dict[str, int]:
    problems = [item.problem for item in items if item.scored is None]
    scored = [item.scored for item in items if item.scored is not None]
    return {
        "expected": len(items),
        "scored": len(scored),
        "unscored": len(problems),
        "missing": problems.count("missing"),
        "errors": problems.count("error"),
        "needs_judge": problems.count("needs a judge"),
        "judge_failures": sum(item.judge_failed for item in items),
        "parse_failures": sum(bool(one.failure) for one in scored),
        "left_out_by_protocol": sum(one.score is None for one in scored),
    }


def _value(item: Item, name: str) -> float | None:
    """An item's figure; None where it is outside the figure's denominator."""
    if item.scored is None:
        return None
    return item.scored.score if name == MAIN_FIGURE else item.scored.figures.get(name)


def _ratio(name: str, items: Sequence[Item]) -> Ratio:
    values = [_value(item, name) for item in items]
    return Ratio([value or 0.0 for value in values], [float(value is not None) for value in values])


def _leaves(name: str, items: Sequence[Item], over: Sequence[str]) -> list[Path]:
    """The innermost groups in which any item has the figure."""
    found = {_path(item, over) for item in items if _value(item, name) is not None}
    return sorted(path for path in found if path is not None)


def _weights(leaves: Sequence[Path]) -> list[float]:
    """Of each innermost group its weight in the unweighted mean over nested groups: (leaves,), of sum 1."""
    weights = []
    for leaf in leaves:
        siblings = [len({other[i] for other in leaves if other[:i] == leaf[:i]}) for i in range(len(leaf))]
        weights.append(1 / math.prod(siblings))
    return weights


def _mix(name: str, items: Sequence[Item], over: Sequence[str]) -> Mix:
    """The unweighted mean over nested groups of what their scored items have; without groups the mean over items."""
    ratio = _ratio(name, items)
    leaves = _leaves(name, items, over)
    if not leaves:
        return [(1.0, ratio)]
    tops, bottoms = np.asarray(ratio.numerators), np.asarray(ratio.denominators)
    paths = [_path(item, over) for item in items]
    mix = []
    for leaf, weight in zip(leaves, _weights(leaves), strict=True):
        inside = np.array([path == leaf for path in paths], dtype=float)
        mix.append((weight, Ratio(tops * inside, bottoms * inside)))
    return mix


def _mean_over(name: str, items: Sequence[Item], over: Sequence[str], seed: int) -> dict[str, Any]:
    groups = {path: share for path, rows in _split(items, over).items() if (share := _share(name, rows)) is not None}
    weighted = zip(groups.values(), _weights(list(groups)), strict=True)
    over_expected = sum(share * weight for share, weight in weighted) if groups else None
    return estimate(_mix(name, items, over), _videos(items), seed) | {"over_expected": over_expected}


def _share(name: str, items: Sequence[Item]) -> float | None:
    """The sum of a figure over all items, 0 for those that have none; None if the protocol leaves out every one."""
    values = [value for item in items if (value := _value(item, name)) is not None]
    return sum(values) / len(items) if values or any(item.scored is None for item in items) else None


def _path(item: Item, over: Sequence[str]) -> Path | None:
    path = tuple(item.sample.metadata.get(name, "") for name in over)
    return path if all(path) else None


def _split(items: Sequence[Item], over: Sequence[str]) -> dict[Path, list[Item]]:
    found: dict[Path, list[Item]] = {}
    for item in items:
        if (path := _path(item, over)) is not None:
            found.setdefault(path, []).append(item)
    return dict(sorted(found.items()))


def _figures(benchmark: Benchmark, items: Sequence[Item], seed: int) -> dict[str, Any]:
    figures = {}
    for name in benchmark.figures:
        ratio = _ratio(name, items)
        figures[name] = estimate([(1.0, ratio)], _videos(items), seed) | {
            "items": int(np.sum(ratio.denominators)),
            "over_expected": _share(name, items),
        }
    return {"counts": _counts(items), "figures": figures}


def _videos(items: Sequence[Item]) -> list[str]:
    return [item.sample.video for item in items]
