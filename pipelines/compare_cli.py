"""`deepvideo compare`: runs side by side, as tables and a plot."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.settings import SettingsError
from pipelines.tracking_options import TrackingUri, chosen_tracking_uri

if TYPE_CHECKING:
    from pipelines.comparing import ComparedRun, Figure

app = typer.Typer()
console = Console()
_SUFFIXES = (".pdf", ".png", ".svg")


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Names, Kubeflow's run ids, or MLflow's ids.")],
    tracking_uri: TrackingUri = "",
    plot: Annotated[Path | None, typer.Option(help="File for the curves: .png, .svg or .pdf.")] = None,
) -> None:
    """Compare runs in MLflow: held-out figures, the differences from the first run, and the settings that differ."""
    if len(runs) < 2:
        raise SettingsError(f"compare: got one run, {runs[0]}; name two or more")
    if len(runs) > len(string.ascii_uppercase):
        raise SettingsError(f"compare: got {len(runs)} runs; at most {len(string.ascii_uppercase)} have a letter each")
    if plot and plot.suffix not in _SUFFIXES:
        raise SettingsError(f"--plot {plot}: ends with {plot.suffix or 'nothing'}; give one of {', '.join(_SUFFIXES)}")
    from pipelines.comparing import differing, read_runs

    found = read_runs(chosen_tracking_uri(tracking_uri), runs)
    letters = string.ascii_uppercase[: len(found)]
    for letter, run in zip(letters, found, strict=True):
        console.print(Text(f"{letter}  {run.name}  ({run.status.lower()}, MLflow {run.run_id})"), soft_wrap=True)
    console.print("\nHeld-out figures, per cent: base policy > trained policy, \\[interval of the gain]")
    console.print(_figures(found, letters))
    if rows := differing(found):
        console.print("\nSettings that differ:")
        table = Table("setting", *letters, box=None)
        for name, values in rows.items():
            table.add_row(*(Text(value, overflow="fold") for value in (name, *values)))
        console.print(table)
    else:
        console.print("\nThe settings, the data and the code are the same.")
    if plot:
        _draw(found, letters, plot)
        console.print(f"\nCurves: {plot}", soft_wrap=True, highlight=False)


def _figures(runs: Sequence[ComparedRun], letters: str) -> Table:
    table = Table("figure", *letters, *(f"{letter} - A" for letter in letters[1:]), box=None)
    names = sorted({name for run in runs for name in run.figures})
    for name in names:
        figures = [run.figures.get(name) for run in runs]
        first = figures[0]
        changes = [_points(figure.after - first.after) if figure and first else "-" for figure in figures[1:]]
        table.add_row(Text(name.removeprefix("eval/")), *(Text(_figure(figure)) for figure in figures), *changes)
    if not names:
        table.add_row("none yet", *("-" for _ in letters), *("-" for _ in letters[1:]))
    return table


def _figure(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    text = f"{100 * figure.before:.1f} > {100 * figure.after:.1f}"
    if figure.low is None or figure.high is None:
        return text
    return f"{text}\n[{_points(figure.low)}, {_points(figure.high)}]"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _draw(runs: Sequence[ComparedRun], letters: str, path: Path) -> None:
    """A panel for each figure, a curve over the rounds for each run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    names = sorted({name for run in runs for name in run.curves}) or [""]
    drawing = Drawing(figsize=(4.0 * len(names), 3.2), layout="constrained")
    FigureCanvasAgg(drawing)
    for panel, name in zip(drawing.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for letter, run in zip(letters, runs, strict=True):
            points = run.curves.get(name, [])
            panel.plot([at for at, _ in points], [100 * value for _, value in points], "o-", label=letter)
        panel.set(title=name.removeprefix("eval/"), xlabel="round", ylabel="per cent")
    drawing.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=len(runs))
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path)
