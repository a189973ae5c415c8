"""What the command line prints of a finished run."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.report.page import warmup_text
from components.report.summary import Compared, Summary
from components.shared.schemas import Quarantined
from components.shared.statistics import Estimate
from pipelines.run_folder import RunFolder

MOST_QUARANTINED = 5


def print_summary(folder: RunFolder, console: Console) -> None:
    """Scores before and after, promotion, what was left out, time, and the two commands that show more."""
    summary = Summary.model_validate_json(folder.summary.read_text())
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("level", "n", "before", "after", "difference", "greedy", "unread"):
        table.add_column(name, justify="left" if name == "level" else "right", no_wrap=True)
    for name, level in summary.evaluation.items():
        sampled = level.figures["sampled"]
        table.add_row(
            name,
            str(level.questions),
            _percent(sampled.before.value),
            _percent(sampled.after.value),
            _difference(sampled.difference),
            _change(level.figures.get("greedy")),
            _change(level.figures["sampled_parse_failure"]),
        )
    console.print()
    console.print(summary.verdict, style="bold", highlight=False)
    console.print(
        "\nPer cent right of answers sampled at temperature 1: before, after, and the paired difference with its "
        "interval. Then greedy answers, and answers that could not be read: before > after."
    )
    console.print(table)
    if summary.warmup:
        console.print(f"Supervised warm-up: {warmup_text(summary.warmup)}", highlight=False)
    if left_out := summary.data.quarantined:
        console.print(f"Left out of the data: {len(left_out)}")
        for item in left_out[:MOST_QUARANTINED]:
            console.print(quarantined_line(item), markup=False, highlight=False)
        if len(left_out) > MOST_QUARANTINED:
            console.print(f"  and {len(left_out) - MOST_QUARANTINED} more, in the report")
    timings = summary.timings
    console.print(
        f"{timings.total_seconds:.0f} s in all, {timings.startup_share:.0%} of it engine start-up\n", highlight=False
    )
    for title, command in zip(("Report:", "MLflow:"), commands(folder), strict=True):
        console.print(f"{title}  {command}", markup=False, highlight=False, soft_wrap=True)


def quarantined_line(item: Quarantined) -> str:
    """What was left out, and why."""
    return f"  {item.item}: {item.reason} ({item.detail})"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _difference(estimate: Estimate) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "-"
    return escape(f"{100 * estimate.value:+.1f} [{100 * estimate.low:+.1f}, {100 * estimate.high:+.1f}]")


def _change(compared: Compared | None) -> str:
    return "-" if compared is None else f"{_percent(compared.before.value)} > {_percent(compared.after.value)}"


def commands(folder: RunFolder) -> list[str]:
    """The two commands that open the report and MLflow; a server's address stands for the latter."""
    if folder.tracking_uri.startswith("http"):
        return [f"xdg-open {shlex.quote(str(folder.report))}", f"xdg-open {shlex.quote(folder.tracking_uri)}"]
    mlflow = f"{shlex.quote(str(Path('.venv/bin/mlflow')))} server --backend-store-uri {folder.tracking_uri}"
    return [f"xdg-open {shlex.quote(str(folder.report))}", mlflow]
