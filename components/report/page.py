"""The page and its short Markdown sister, rendered from a summary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from components.report.summary import Summary, WarmupSummary
from components.report.verdict import plain, signed

FIGURE_TITLES = {
    "sampled": "sampled answers",
    "greedy": "greedy answers",
    "sampled_parsed": "sampled, those that could be read",
    "greedy_parsed": "greedy, those that could be read",
    "sampled_parse_failure": "sampled, could not be read",
    "greedy_parse_failure": "greedy, could not be read",
}
_MOST_FLIPS = 12  # shown of each direction; all of them are in the scores artifact


def _digits(value: float | None) -> str:
    """Three significant digits; small and large numbers as a power of ten."""
    if value is None:
        return "–"
    return f"{value:.3g}" if value and not 1e-3 <= abs(value) < 1e4 else f"{value:.3f}"


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value or "–"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(map(_setting, value)) or "–"
    return json.dumps(value) if isinstance(value, dict) else str(value)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("components.report", "."),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=False,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        number=plain,
        points=lambda value, kind: signed(value) if kind == "signed" else plain(value),
        reward=lambda value: plain(value, 2),
        signed=signed,
        digits=_digits,
        signed_digits=lambda value: signed(value, 2),
        count=lambda value: f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}"),
        percent=lambda share: f"{100 * share:g}",
        setting=_setting,
    )
    return environment


def duration(seconds: float) -> str:
    """A duration in the largest units that suit it, such as 2 h 05 min or 41 s."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"


def warmup_text(warmup: WarmupSummary) -> str:
    """A warm-up in one line."""
    losses = [_digits(value) for value in (warmup.loss_first_epoch, warmup.loss_last_epoch)]
    return (
        f"{warmup.epochs} epochs over {warmup.samples} samples ({warmup.answers} by their answers alone,"
        f" {warmup.left_out} left out), loss {losses[0]} in the first, {losses[1]} in the last, nats a token"
    )


def facts(run: Summary) -> dict[str, str]:
    """What stands below the verdict."""
    ran = [item for item in run.rounds if not item.skipped]
    skipped = f" ({len(run.rounds) - len(ran)} skipped)" if len(ran) < len(run.rounds) else ""
    warmup = {"Supervised warm-up": warmup_text(run.warmup)} if run.warmup else {}
    return warmup | {
        "Rounds": f"{len(run.rounds)}{skipped}",
        "Prompts trained on": f"{sum(item.prompts for item in ran)}",
        "Optimizer steps": f"{sum(item.optimizer_steps for item in ran)}",
        "Time": duration(run.timings.total_seconds),
        "of it engine start-up": duration(run.timings.startup_seconds),
        "Left out of the data": f"{sum(item.samples for item in run.data.quarantined)} samples",
        "Seed": f"{run.seed}",
    }


def html(
    run: Summary,
    figures: Mapping[str, str],
    *,
    confidence: float,
    kinds: Sequence[Mapping[str, Any]],
    examples: Sequence[Mapping[str, Any]],
    gained: Sequence[Mapping[str, str]],
    lost: Sequence[Mapping[str, str]],
) -> str:
    """The report as one self-contained page. `figures` are SVG texts by name."""
    environment = _environment()
    return environment.get_template("page.html.j2").render(
        run=run,
        style=Markup(environment.get_template("page.css").render()),
        figures={name: Markup(svg) for name, svg in figures.items()},
        figure_titles=FIGURE_TITLES,
        facts=facts(run),
        harder=run.settings.get("augmentation", {}).get("frame_augmentation", "noise"),
        ran=any(not item.skipped for item in run.rounds),
        confidence=confidence,
        kinds=kinds,
        examples=examples,
        gained=len(gained),
        lost=len(lost),
        flips_gained=gained[:_MOST_FLIPS],
        flips_lost=lost[:_MOST_FLIPS],
    )


def markdown(run: Summary) -> str:
    """The verdict, the scores and the rounds as Markdown."""
    return _environment().get_template("page.md.j2").render(run=run, facts=facts(run))
