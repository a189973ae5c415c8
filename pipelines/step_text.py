"""What the command line prints of a step that ran alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from components.shared.schemas import Quarantined
from pipelines.single_step import StepDone
from pipelines.summary_text import MOST_QUARANTINED, quarantined_line


def print_step(done: StepDone, console: Console) -> None:
    """The figures that the step reported, the first of what it left out of the data, and the reference files it wrote."""
    shown = {name: text for name, value in done.results.items() if (text := _figure(value))}
    width = max(map(len, shown), default=0)
    lines = [f"{name:{width}}  {text}" for name, text in shown.items()]
    left_out = [Quarantined.model_validate(item) for item in done.results.get("first_quarantined", [])]
    lines += [quarantined_line(item) for item in left_out[:MOST_QUARANTINED]]
    for line in [*lines, *map(str, done.files)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _figure(value: Any) -> str:
    """A figure or a few by name; nothing for what only the report can show: series, tables."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {text}" for name, item in value.items() if (text := _scalar(item)))
    return _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value) if isinstance(value, int | str) else ""
