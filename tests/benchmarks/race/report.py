"""What the race's raw results say: figures for each point, whether what was aimed at was reached, and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from tests.benchmarks.race import flops
from tests.benchmarks.race.contest import Result
from tests.benchmarks.race.shapes import ModelShape, Point

GIB = 1 << 30
WORK = {
    "packed": flops.packed_work,
    "rows_in_a_batch": flops.row_work,
    "rows_one_by_one": flops.row_work,
    "trl_rows": flops.trl_work,
}
LABELS = {
    "packed": "packed",
    "rows_in_a_batch": "rows in a batch",
    "rows_one_by_one": "row by row",
    "trl_rows": "TRL's GRPOTrainer",
}
MAIN = Point(2048, 128, 8)
TIMES_FASTER = {"rows_in_a_batch": 4.0, "rows_one_by_one": 3.5, "trl_rows": 4.0}
MEMORY_SHARE = 0.5
PREDICTION_SHARE = 0.8
CURVATURE = 1.15  # how much steeper than before it the last part of peak memory's line may be
LOGITS_SHARE = 0.05  # of what whole logits would take


def figures(shape: ModelShape, point: Point, results: Mapping[str, Result]) -> dict[str, Any]:
    """Every contestant's figures on a point. Ratios are the contestant's by the packed step's: above 1 packed is better."""
    packed = results["packed"]
    found = {}
    for name, result in results.items():
        work = WORK[name](point)
        entry: dict[str, Any] = {
            "ended": result.ended or None,
            "step_seconds": result.seconds,
            "peak_bytes": result.peak_bytes,
            "tokens": work.tokens,
            "operations": flops.step(shape, work),
            "predicted_ratio": flops.step(shape, work) / flops.step(shape, flops.packed_work(point)),
        }
        if result.seconds:
            seconds = median(result.seconds)
            entry["median_seconds"] = seconds
            entry["tokens_per_second"] = work.tokens / seconds
            entry["response_tokens_per_second"] = point.generations * point.response / seconds
            entry["operations_per_second"] = entry["operations"] / seconds
            entry["first_peak_bytes"] = result.peak_bytes[0]  # that of the fresh process
            if packed.seconds:
                entry["measured_ratio"] = seconds / median(packed.seconds)
                entry["memory_ratio"] = result.peak_bytes[0] / packed.peak_bytes[0]
        found[name] = entry
    return {"point": point._asdict(), "contestants": found}


def goals(points: Sequence[Mapping[str, Any]], sweep: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the race is to show, and what it showed: `met` is None where it could not be measured."""
    found = []
    for entry in points:
        point, others = Point(**entry["point"]), dict(entry["contestants"])
        others.pop("packed")
        for name, figure in others.items():
            ratio = figure.get("measured_ratio")
            if point == MAIN and name in TIMES_FASTER:
                found.append(_goal(f"{point.name}: times faster than {LABELS[name]}", ratio, low=TIMES_FASTER[name]))
            if point == MAIN and name == "rows_in_a_batch":
                memory = figure.get("memory_ratio")
                share = memory and 1 / memory
                found.append(_goal(f"{point.name}: peak memory by that of {LABELS[name]}", share, high=MEMORY_SHARE))
            if point.prompt >= MAIN.prompt and point.generations >= MAIN.generations:
                share = ratio and ratio / figure["predicted_ratio"]
                goal = f"{point.name}: measured by predicted ratio, {LABELS[name]}"
                found.append(_goal(goal, share, low=PREDICTION_SHARE))
            if name.startswith("rows"):
                found.append(_goal(f"{point.name}: no slower than {LABELS[name]}", ratio, low=1.0))
    return found + memory_goals(sweep)


def memory_goals(sweep: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Whether packed peak memory grows at most linearly in response tokens, and not with vocabulary x response tokens."""
    lines: dict[int, list[tuple[int, int]]] = {}
    for entry in sweep:
        if entry["peak_bytes"] is not None:
            lines.setdefault(entry["vocabulary"], []).append((entry["response_tokens"], entry["peak_bytes"]))
    found = []
    for vocabulary, line in sorted(lines.items()):
        line.sort()
        # not by its first part: with few responses the peak is one chunk of the head's, however many tokens there are
        before, last = (_slope(line[0], line[-2]), _slope(line[-2], line[-1])) if len(line) > 2 else (0.0, 0.0)
        goal = f"vocabulary {vocabulary}: growth of peak memory by response token, at the end by before"
        found.append(_goal(goal, last / before if before > 0 else None, high=CURVATURE))
    if len(lines) == 2:
        (small, one), (large, other) = sorted(lines.items())
        if len(one) > 1 and [tokens for tokens, _ in one] == [tokens for tokens, _ in other]:
            extra = (other[-1][1] - one[-1][1]) - (other[-2][1] - one[-2][1])
            logits = 4 * (large - small) * (one[-1][0] - one[-2][0])
            goal = f"{one[-2][0]} to {one[-1][0]} response tokens: what a larger vocabulary adds, by its logits"
            found.append(_goal(goal, extra / logits, high=LOGITS_SHARE))
    return found


def _slope(start: tuple[int, int], end: tuple[int, int]) -> float:
    return (end[1] - start[1]) / (end[0] - start[0])


def _goal(text: str, value: float | None, *, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    met = None if value is None else (low is None or value >= low) and (high is None or value <= high)
    return {"goal": text, "at_least": low, "at_most": high, "measured": value, "met": met}


def table(content: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Packed training against one row per response",
        "",
        f"{content['date']}, {content['hardware']}, `{content['command']}`; {content['engines']}.",
        f"Model: {content['model']}. Times: median of {content['repetitions']} (least to most). Memory: the highest that a"
        " step in a fresh process added. Ratios: by the packed step; predicted from the operations of each step.",
        "",
        "| prompt/response/G | | step, s | response tokens/s | tokens/s | peak, GiB | ratio | predicted | share |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in content["points"]:
        name = Point(**entry["point"]).name
        lines += [_row(name, LABELS[who], figure) for who, figure in entry["contestants"].items()]
    lines += ["", "| aimed at | at least | at most | measured | |", "|---|---|---|---|---|"]
    words = {True: "reached", False: "**missed**", None: "not measured"}
    lines += [
        f"| {goal['goal']} | {_number(goal['at_least'])} | {_number(goal['at_most'])} | {_number(goal['measured'])} |"
        f" {words[goal['met']]} |"
        for goal in content["goals"]
    ]
    return "\n".join(lines) + "\n"


def _row(point: str, label: str, figure: Mapping[str, Any]) -> str:
    if "median_seconds" not in figure:
        return f"| {point} | {label} | {figure['ended']} | | | | | {figure['predicted_ratio']:.2f} | |"
    times, ratio = figure["step_seconds"], figure.get("measured_ratio", float("nan"))
    note = f", then {figure['ended']}" if figure["ended"] else ""
    return (
        f"| {point} | {label} | {figure['median_seconds']:.2f} ({min(times):.2f} to {max(times):.2f}){note}"
        f" | {figure['response_tokens_per_second']:.0f} | {figure['tokens_per_second']:.0f}"
        f" | {figure['first_peak_bytes'] / GIB:.2f} | {ratio:.2f} | {figure['predicted_ratio']:.2f}"
        f" | {ratio / figure['predicted_ratio']:.2f} |"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
