"""The report's figures: drawn once with matplotlib, used as inline SVG in the page and as PNG files for MLflow.

The SVG's colours are handed over to CSS variables, so that one drawing suits a light page, a dark one, and paper.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.report.summary import RoundSummary, StepSeconds, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# each colour stands for a CSS variable of the page
INK, MUTED, RULE = "#1d2126", "#6b7480", "#d9dde2"
BEFORE, AFTER, NOISE, HINT = "#8d96a1", "#2462a8", "#b8601c", "#3d7f4f"
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    BEFORE: "--before",
    AFTER: "--after",
    NOISE: "--noise",
    HINT: "--hint",
}
_WIDTH = 7.4  # inches: the page's text column
_MOST_HISTOGRAMS = 8
_FEW_STEPS = 40  # each gets a point
_RC: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": INK,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "svg.fonttype": "none",
}
# panel title -> key of the training series; names are TRL's
TRAINING_PANELS = {
    "Loss": "loss",
    "KL to the reference": "kl",
    "Entropy (nats a token)": "entropy",
    "Gradient norm": "grad_norm",
    "Spread of the log-ratios in a group (rho_std)": "rho_std",
}


def draw_all(summary: Summary, folder: Path) -> dict[str, str]:
    """Draw every figure; writes `folder/<name>.png` and returns the SVG texts by name."""
    import matplotlib

    matplotlib.use("agg")
    folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, tuple[Callable[[Summary], Figure], str]] = {
        "levels": (_levels, "Score per level before and after training, with intervals"),
        "reward": (_reward, "Mean reward of sampled responses over rounds"),
        "difficulty": (_difficulty, "Histogram of the samples' difficulty, a panel a round"),
        "vanishing": (_vanishing, "Share of groups whose rewards are all equal, before and after augmentation"),
        "training": (_training, "Training curves over optimizer steps"),
        "timings": (_timings, "Seconds a step took, engine start-ups apart"),
    }
    if not summary.rounds:  # a warm-up alone
        figures = {name: figures[name] for name in ("levels", "timings")}
    return {name: _render(draw, label, summary, name, folder) for name, (draw, label) in figures.items()}


def _render(draw: Callable[[Summary], Figure], label: str, summary: Summary, name: str, folder: Path) -> str:
    import matplotlib
    from matplotlib import pyplot

    # the salt makes the SVG's ids the same in every run, and different in every figure of a page
    with matplotlib.rc_context(_RC | {"svg.hashsalt": name}):
        figure = draw(summary)
        figure.savefig(folder / f"{name}.png", dpi=150, facecolor="white", metadata={"Software": None})
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    return _inline(text.getvalue(), label)


def _inline(svg: str, label: str) -> str:
    """An SVG file as an element of a page: no XML header, no ids that other figures have too, colours as variables."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[a-zA-Z]+[a-zA-Z0-9]*_\d+"', "", svg)
    svg = re.sub(r'(<svg [^>]*?) ?width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?) ?height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg


def _figure(height: float, columns: int = 1, rows: int = 1, **options: Any) -> tuple[Figure, list[Axes]]:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        rows, columns, figsize=(_WIDTH, height), layout="constrained", squeeze=False, **options
    )
    return figure, list(axes.flat)


def _levels(summary: Summary) -> Figure:
    levels = list(summary.evaluation)
    figure, (axes,) = _figure(0.5 + 0.42 * len(levels))
    for row, level in enumerate(levels):
        scores = summary.evaluation[level].figures["sampled"]
        for estimate, colour, shift in ((scores.before, BEFORE, -0.13), (scores.after, AFTER, 0.13)):
            if estimate.value is None:
                continue
            if estimate.low is not None and estimate.high is not None:
                interval = [100 * estimate.low, 100 * estimate.high]
                axes.plot(interval, [row + shift] * 2, color=colour, linewidth=2.4, alpha=0.45, solid_capstyle="round")
            axes.plot(100 * estimate.value, row + shift, "o", color=colour, markersize=6)
    axes.set_yticks(range(len(levels)), levels, color=INK)
    axes.set_ylim(len(levels) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.set_xlabel("score of sampled answers, %")
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    _legend(axes, {"before": BEFORE, "after": AFTER})
    return figure


def _legend(axes: Axes, entries: Mapping[str, str]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, marker="o", linewidth=2) for colour in entries.values()]
    axes.legend(handles, entries, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(entries), borderaxespad=0.2)


def _per_round(axes: Axes, rounds: Sequence[RoundSummary], values: Sequence[float | None], colour: str) -> None:
    """A line over rounds, broken where a round was skipped."""
    points = [math.nan if value is None else value for value in values]
    axes.plot([item.round for item in rounds], points, "o-", color=colour)


def _round_axis(axes: Axes, rounds: Sequence[RoundSummary]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    axes.set_xlim(rounds[0].round - 0.4, rounds[-1].round + 0.4)
    axes.set_xlabel("round")


def _from_zero(axes: Axes) -> None:
    """Let the vertical axis begin at 0 and end above the highest point."""
    axes.set_ylim(min(0.0, axes.dataLim.y0 * 1.08), max(0.0, axes.dataLim.y1 * 1.08) or 1.0)


def _reward(summary: Summary) -> Figure:
    rounds = summary.rounds
    figure, (total, parts) = _figure(2.5, columns=2)
    _per_round(total, rounds, [item.reward_unaugmented for item in rounds], BEFORE)
    _per_round(total, rounds, [item.reward for item in rounds], AFTER)
    total.set_title("Mean reward", pad=20)
    _legend(total, {"prompts as they are": BEFORE, "as trained on": AFTER})
    names = sorted({name for item in rounds for name in item.rewards})
    colours = dict(zip(names, (AFTER, NOISE, HINT, BEFORE), strict=False))
    for name, colour in colours.items():
        _per_round(parts, rounds, [item.rewards.get(name) for item in rounds], colour)
    parts.set_title("Rewards by name", pad=20)
    _legend(parts, colours)
    for axes in (total, parts):
        _round_axis(axes, rounds)
        _from_zero(axes)
    return figure


def _chosen(rounds: Sequence[RoundSummary]) -> list[RoundSummary]:
    """At most eight of the rounds that ran, the first and the last among them."""
    ran = [item for item in rounds if item.difficulty is not None]
    if len(ran) <= _MOST_HISTOGRAMS:
        return ran
    return [ran[round(index * (len(ran) - 1) / (_MOST_HISTOGRAMS - 1))] for index in range(_MOST_HISTOGRAMS)]


def _difficulty(summary: Summary) -> Figure:
    rounds = _chosen(summary.rounds)
    columns = min(4, len(rounds))
    rows = math.ceil(len(rounds) / columns)
    figure, panels = _figure(1.9 * rows, columns, rows, sharex=True, sharey=True)
    for axes in panels[len(rounds) :]:
        axes.set_axis_off()
    for axes, item in zip(panels, rounds, strict=False):
        assert item.difficulty is not None
        edges, counts = item.difficulty.edges, item.difficulty.counts
        widths = [high - low for low, high in zip(edges, edges[1:], strict=False)]
        colours = [HINT if low + high > 0 else NOISE for low, high in zip(edges, edges[1:], strict=False)]
        axes.bar(edges[:-1], counts, widths, align="edge", color=colours, linewidth=0)
        axes.set_title(f"round {item.round}")
        axes.set_xticks([-1, -0.5, 0, 0.5, 1], ["−1", "−0.5", "0", "0.5", "1"])
    figure.supxlabel("difficulty Δ: easy below 0, hard above", color=MUTED, fontsize=9)
    panels[0].set_ylabel("samples")
    return figure


def _vanishing(summary: Summary) -> Figure:
    rounds = summary.rounds
    figure, (axes,) = _figure(2.4)
    for values, colour in (
        ([item.frac_reward_zero_std_unaugmented for item in rounds], BEFORE),
        ([item.frac_reward_zero_std for item in rounds], AFTER),
    ):
        _per_round(axes, rounds, [None if value is None else 100 * value for value in values], colour)
    _legend(axes, {"before augmentation": BEFORE, "after augmentation": AFTER})
    _round_axis(axes, rounds)
    _from_zero(axes)
    axes.set_ylabel("groups, %")
    return figure


def _training(summary: Summary) -> Figure:
    series = {
        name: [math.nan if value is None else value for value in values] for name, values in summary.training.items()
    }
    steps, rounds = series["step"], series["round"]
    borders = [(steps[i - 1] + steps[i]) / 2 for i in range(1, len(steps)) if rounds[i] != rounds[i - 1]]
    style: dict[str, Any] = {"marker": "o", "markersize": 2.5} if len(steps) <= _FEW_STEPS else {}
    figure, panels = _figure(5.4, columns=2, rows=3, sharex=True)
    for axes, (title, name) in zip(panels, TRAINING_PANELS.items(), strict=False):
        for border in borders:
            axes.axvline(border, color=RULE, linewidth=0.8)
        axes.plot(steps, series[name], color=AFTER, linewidth=1.3, **style)
        axes.set_title(title)
        axes.margins(x=0.02)
        if all(math.isnan(value) for value in series[name]):
            axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=MUTED)
            axes.set_yticks([])
    panels[5].set_axis_off()
    for axes in (panels[3], panels[4]):
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("optimizer step")
    return figure


def _timings(summary: Summary) -> Figure:
    steps: Sequence[StepSeconds] = summary.timings.steps
    figure, (axes,) = _figure(0.6 + 0.26 * len(steps))
    rows = range(len(steps))
    axes.barh(rows, [item.seconds for item in steps], color=AFTER, height=0.6)
    axes.barh(
        rows, [item.startup_seconds for item in steps], left=[item.seconds for item in steps], color=NOISE, height=0.6
    )
    axes.set_yticks(rows, [item.step for item in steps], color=INK)
    axes.invert_yaxis()
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("seconds")
    _legend(axes, {"work": AFTER, "engine start-up": NOISE})
    return figure
