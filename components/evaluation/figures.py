"""From answers to the content of scores.json: per level, per kind of question, and against a baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from components.shared.context import generator
from components.shared.rewards.accuracy import RIGHT
from components.shared.schemas import PROMOTION_SPLIT
from components.shared.scores import (
    OVERALL,
    Answered,
    by_level,
    figure_names,
    level_difference,
    level_figure,
    metric_name,
)


def _levels_and_overall(answers: Sequence[Answered]) -> dict[str, list[Answered]]:
    levels = by_level(answers)
    held_out = [answered for answered in answers if answered.level != PROMOTION_SPLIT]
    return levels | {OVERALL: held_out} if held_out else levels


def figures_by_level(
    answers: Sequence[Answered], *, confidence: float, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Level (and `overall`) -> its number of questions and videos, its metric's name, figures, and figures by kind."""

    def estimate(rows: list[Answered], level: str) -> Callable[[str], dict[str, float | None]]:
        return lambda name: asdict(
            level_figure(name, rows, confidence=confidence, resamples=resamples, rng=_rng(seed, level, name))
        )

    levels: dict[str, dict[str, Any]] = {}
    for level, rows in _levels_and_overall(answers).items():
        levels[level] = _described(rows, estimate(rows, level))
        kinds = sorted({answered.kind for answered in rows})
        chosen = {kind: [answered for answered in rows if answered.kind == kind] for kind in kinds}
        levels[level]["kinds"] = {
            kind: _described(some, estimate(some, f"{level}/{kind}")) for kind, some in chosen.items()
        }
    return levels


def changes_by_level(
    after: Sequence[Answered], before: Sequence[Answered], *, confidence: float, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Level (and `overall`) -> paired differences `after - before`, and how many greedy answers flipped.

    Rows of `after` and `before` are paired.
    """
    partner = {answered.sample_id: answered for answered in before}
    levels: dict[str, dict[str, Any]] = {}
    for level, rows in _levels_and_overall(after).items():
        partners = [partner[answered.sample_id] for answered in rows]
        names = [name for name in figure_names(rows) if name in figure_names(partners)]
        directions = [flip["direction"] for flip in flips(rows, partners)]
        levels[level] = {
            "metric": metric_name(rows),
            "figures": {
                name: asdict(
                    level_difference(
                        name,
                        rows,
                        partners,
                        confidence=confidence,
                        resamples=resamples,
                        rng=_rng(seed, level, f"{name} difference"),
                    )
                )
                for name in names
            },
            "gained": directions.count("gained"),
            "lost": directions.count("lost"),
        }
    return levels


def flips(after: Sequence[Answered], before: Sequence[Answered]) -> list[dict[str, str]]:
    """Questions whose greedy answer turned right (`gained`) or wrong (`lost`), with both texts. Rows are paired."""
    found = []
    for new, old in zip(after, before, strict=True):
        if new.greedy is None or old.greedy is None or (new.greedy.reward >= RIGHT) == (old.greedy.reward >= RIGHT):
            continue
        found.append(
            {
                "direction": "gained" if new.greedy.reward >= RIGHT else "lost",
                "sample_id": new.sample_id,
                "level": new.level,
                "kind": new.kind,
                "video": new.video,
                "question": new.question,
                "answer": new.answer,
                "before": old.greedy.text,
                "after": new.greedy.text,
            }
        )
    return found


def tracked_metrics(levels: dict[str, Any], changes: dict[str, Any], label: str) -> dict[str, float]:
    """The headline figures by metric name, such as `eval/L1/accuracy` and `eval/L1/accuracy_difference`.

    Before and after have the same names: they are points of one curve over the rounds. The champion's have its own.
    Sampled answers unless the name says greedy. Undefined figures are left out.
    """
    suffix = "_champion" if label == "champion" else ""
    metrics: dict[str, float | None] = {}
    for level, described in levels.items():
        prefix, figures = f"eval/{level}/{described['metric']}", described["figures"]
        metrics[f"{prefix}{suffix}"] = figures["sampled"]["value"]
        metrics[f"{prefix}_parsed{suffix}"] = figures["sampled_parsed"]["value"]
        metrics[f"eval/{level}/parse_failure{suffix}"] = figures["sampled_parse_failure"]["value"]
        if "greedy" in figures:
            metrics[f"{prefix}_greedy{suffix}"] = figures["greedy"]["value"]
    for level, change in changes.items():
        prefix = f"eval/{level}/{change['metric']}"
        for bound, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
            metrics[f"{prefix}_difference{suffix}"] = change["figures"]["sampled"][bound]
        if "greedy" in change["figures"]:
            metrics[f"{prefix}_greedy_difference"] = change["figures"]["greedy"]["value"]
            metrics |= {f"eval/{level}/{way}": change[way] for way in ("gained", "lost")}
    return {name: value for name, value in metrics.items() if value is not None}


def _described(rows: list[Answered], estimate: Callable[[str], dict[str, float | None]]) -> dict[str, Any]:
    return {
        "metric": metric_name(rows),
        "questions": len(rows),
        "videos": len({answered.video for answered in rows}),
        "figures": {name: estimate(name) for name in figure_names(rows)},
    }


def _rng(seed: int, level: str, purpose: str) -> np.random.Generator:
    return generator(seed, 0, level, f"bootstrap {purpose}")
