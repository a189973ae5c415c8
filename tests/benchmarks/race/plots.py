"""The race's plots, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from tests.benchmarks.race.report import GIB, LABELS
from tests.benchmarks.race.shapes import Point


def speed(points: Sequence[Mapping[str, Any]], path: Path) -> None:
    """How many times faster the packed step is, at every point, measured (bars) and predicted (lines)."""
    figure, axis = plt.subplots(figsize=(10, 4.5))
    names = [name for name in LABELS if name != "packed" and any(name in entry["contestants"] for entry in points)]
    width = 0.8 / max(1, len(names))
    for offset, name in enumerate(names):
        for place, entry in enumerate(points):
            found = entry["contestants"].get(name, {})
            left = place - 0.4 + offset * width
            label = LABELS[name] if place == 0 else None
            axis.bar(left, found.get("measured_ratio") or 0, width * 0.9, align="edge", color=f"C{offset}", label=label)
            if "predicted_ratio" in found:
                axis.hlines(found["predicted_ratio"], left, left + width * 0.9, colors="black", linewidth=1.5)
            if "measured_ratio" not in found and found:
                axis.text(left + width / 2, 0.1, found["ended"], rotation=90, ha="center", va="bottom", fontsize=7)
    axis.axhline(1, color="grey", linewidth=0.8)
    axis.set_xticks(range(len(points)), [Point(**entry["point"]).name for entry in points], rotation=20)
    axis.set_xlabel("prompt / response / G")
    axis.set_ylabel("step time by packed step time")
    axis.legend(title="packed against (black: predicted)")
    _save(figure, path)


def memory(sweep: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Peak memory of the packed step at a fixed prompt, by response tokens of the group, a line a vocabulary."""
    figure, axis = plt.subplots(figsize=(6, 4))
    for vocabulary in sorted({entry["vocabulary"] for entry in sweep}):
        line = sorted(
            (entry["response_tokens"], entry["peak_bytes"] / GIB)
            for entry in sweep
            if entry["vocabulary"] == vocabulary and entry["peak_bytes"] is not None
        )
        axis.plot(*zip(*line, strict=True), marker="o", label=f"vocabulary {vocabulary:,}")
    axis.set_xlabel("G x response length, tokens")
    axis.set_ylabel("peak memory of a packed step, GiB")
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)
    axis.legend()
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
