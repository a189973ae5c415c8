"""The results page: Markdown from the numbers alone, verdicts included."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from components.shared.schemas import TUNING_SPLIT
from components.shared.statistics import Estimate
from tests.benchmarks.study.arms import ARMS, BASE, REG_AUG, Arm, Plan, Table
from tests.benchmarks.study.claims import CLAIMS, LEVELS, PAPER, Claim
from tests.benchmarks.study.comparisons import At, Difference, Runs, difference, mean
from tests.benchmarks.study.records import Questions, accuracy

TITLES: dict[Table, tuple[str, str]] = {  # and the paper's table
    "main": ("Main comparison", "table 4"),
    "objectives": ("Objectives, without augmentation", "table 5"),
    "reference": ("What difficulty is measured against", "table 6"),
    "sides": ("Sides of augmentation", "table 7"),
    "levels": ("Levels of augmentation", "table 8"),
    "staleness": ("Staleness: optimizer steps a generation", "not in the paper"),
}
WANTED_POINTS = 20  # by which the main job must beat the base on L1 in every seed


@dataclass(frozen=True)
class Results:
    """All that a page is made of."""

    plan: Plan
    runs: Runs
    tuning: Runs  # the short runs that chose learning rates, by arm
    questions: Questions
    about: dict[str, str]  # what was run where, by name

    def arms(self, table: Table) -> list[Arm]:
        """The table's arms that have been run."""
        return [arm for arm in ARMS.values() if table in arm.tables and self.runs.get(arm.name)]


def page(results: Results, plots: Sequence[str] = ()) -> str:
    """The whole page. `plots` are paths of pictures, relative to it."""
    quick = results.plan.name != "study"
    head = ["# The paper's comparison on Moving Shapes", ""]
    if quick:
        head += ["**This is the quick one: fewer arms, seeds, questions and responses. It decides nothing.**", ""]
    parts = [
        "\n".join([*head, *_about(results)]),
        _main_job(results),
        _claims(results),
        *(_comparison(results, table, "responses") for table in TITLES),
        _comparison(results, "main", "updates"),
        _comparison(results, "objectives", "updates", title=False),
        _vanishing(results),
        _rates(results),
        _accounting(results),
        _seeds(results),
        "\n".join(["## Curves", "", *(f"![{name}]({name})" for name in plots)]) if plots else "",
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _about(results: Results) -> list[str]:
    plan = results.plan
    rates = ", ".join(f"{rate:g}" for rate in plan.learning_rates)
    return [
        f"Written by `make {plan.name}` from the raw figures beside it. Every arm of reinforcement learning gets"
        f" {plan.responses:,} sampled responses a run, those for difficulty and hints included; the supervised arm gets"
        " right responses instead, and as many optimizer steps as the comparison at equal updates has"
        f" ({plan.updates}). The learning rate of every arm is the best of {rates} on the tuning split, after one short"
        f" run of {plan.tuning_responses:,} responses each. Figures are per cent right of {plan.questions or 'all'}"
        " questions a level, four samples each (temporal grounding counts by IoU). Intervals are 95 %, over seeds and"
        " videos (both drawn anew); differences are paired by seed and question, p is that of a paired t-test over"
        " seeds.",
        "",
        *(f"- {name}: {value}" for name, value in results.about.items()),
    ]


def _main_job(results: Results) -> str:
    """The product's main job against the base, seed by seed."""
    main, base = results.runs.get(REG_AUG), results.runs.get(BASE)
    if not main or not base:
        return ""
    found = {level: difference(main, base, results.questions, level) for level in LEVELS}
    seeds = sorted({run.seed for run in main} & {run.seed for run in base})
    rows = [[f"seed {seed}", *(_signed(found[level].by_seed[i]) for level in LEVELS)] for i, seed in enumerate(seeds)]
    rows.append(["all seeds", *(_gap(found[level]) for level in LEVELS)])
    enough = sum(100 * gain >= WANTED_POINTS for gain in found["L1"].by_seed)
    return "\n".join(
        [
            f"## {ARMS[REG_AUG].label} against the base",
            "",
            f"At least {WANTED_POINTS} points above the base on L1: {enough} of {len(seeds)} seeds.",
            "",
            _rows(["", *LEVELS], rows),
        ]
    )


def _claims(results: Results) -> str:
    rows = []
    for claim in CLAIMS:
        if results.runs.get(claim.better) and results.runs.get(claim.worse):
            rows += [_claim(results, claim, level) for level in LEVELS]
    if not rows:
        return ""
    note = (
        "A claim holds where the interval of the difference lies above 0 and the t-test over seeds has p < 0.05, and is"
        " reversed where it lies below 0 with p < 0.05."
    )
    return "\n".join(
        [
            "## The paper's claims",
            "",
            note,
            "",
            _rows(["claim", "level", "paper, points", "here, points", "p", "at equal responses"], rows),
        ]
    )


def _claim(results: Results, claim: Claim, level: str) -> list[str]:
    better, worse = results.runs[claim.better], results.runs[claim.worse]
    found, paper = difference(better, worse, results.questions, level), claim.in_paper(level)
    text = claim.text if level == LEVELS[0] else ""
    return [text, level, "" if paper is None else f"{paper:+.1f}", _gap(found), _p(found), found.verdict]


def _comparison(results: Results, table: Table, at: At, title: bool = True) -> str:
    arms = [arm for arm in results.arms(table) if at == "responses" or arm.equal_updates]
    if len(arms) < 2:
        return ""
    against = ARMS[BASE if table in ("main", "objectives") else REG_AUG]
    other = results.runs.get(against.name)
    if table == "objectives" and other:
        arms = [against, *arms]
    rows = []
    for arm in arms:
        runs = results.runs[arm.name]
        cells = [_interval(mean(runs, results.questions, level, at)) for level in LEVELS]
        gain = "" if not other or arm == against else _gap(difference(runs, other, results.questions, "L1", at))
        paper = " / ".join(f"{value:.1f}" for value in PAPER[arm.name]) if arm.name in PAPER else ""
        rows.append([arm.label, str(len(runs)), *cells, gain, paper])
    name, source = TITLES[table]
    heads = {
        "responses": f"## {name} ({source}), equal responses",
        "updates": f"## At {results.plan.updates} optimizer steps each, whatever they sampled",
    }
    lines = [heads[at], ""] if title else []
    return "\n".join(
        [*lines, _rows(["", "seeds", *LEVELS, f"L1 against {against.label}", "paper, L1 / L2 / L3"], rows)]
    )


def _vanishing(results: Results) -> str:
    rows = []
    for name, runs in results.runs.items():
        rounds = [[item for item in run.rounds if item.hinted + item.noised] for run in runs]
        if all(rounds) and rounds:
            before, after = (
                [fmean(getattr(item, which) for item in items) for items in rounds]
                for which in ("all_equal_unaugmented", "all_equal")
            )
            gaps = [100 * (new - old) for old, new in zip(before, after, strict=True)]
            rows.append(
                [
                    ARMS[name].label,
                    f"{100 * fmean(before):.1f} %",
                    f"{100 * fmean(after):.1f} %",
                    f"{fmean(gaps):+.1f}",
                    f"{min(gaps):+.1f} to {max(gaps):+.1f}",
                ]
            )
    if not rows:
        return ""
    note = (
        "Share of groups whose rewards are all equal, the same samples without and with their augmentation, mean over"
        " rounds. The paper: about 30 % to about 10 %."
    )
    return "\n".join(
        [
            "## Vanishing advantages (figure 3)",
            "",
            note,
            "",
            _rows(["", "as they are", "as trained on", "points", "over seeds"], rows),
        ]
    )


def _rates(results: Results) -> str:
    rates = results.plan.learning_rates
    rows = []
    for name, runs in results.tuning.items():
        tried = {run.learning_rate: accuracy(run.at_responses, TUNING_SPLIT) for run in runs}
        chosen = next((run.learning_rate for run in results.runs.get(name, ())), None)
        edge = "at the edge" if chosen in (min(rates), max(rates)) else ""
        cells = [f"{100 * tried[rate]:.1f}" if rate in tried else "" for rate in rates]
        rows.append([ARMS[name].label, *cells, f"{chosen:g}" if chosen else "", edge])
    heads = ["", *(f"{rate:g}" for rate in rates), "chosen", "of the three"]
    return (
        "\n".join(["## Learning rates", "", "Per cent right on the tuning split.", "", _rows(heads, rows)])
        if rows
        else ""
    )


def _accounting(results: Results) -> str:
    rows = []
    for name, runs in results.runs.items():
        done = [run.at_responses for run in runs]
        seconds = [sum(run.seconds.values()) for run in runs]
        rows.append(
            [
                ARMS[name].label,
                _span([item.responses for item in done]),
                _span([item.optimizer_steps for item in done]),
                _span([len(run.rounds) for run in runs]),
                f"{fmean(seconds):.0f}",
            ]
        )
    heads = ["", "responses sampled", "optimizer steps", "rounds in all", "core seconds a run"]
    return "\n".join(["## What every arm got", "", _rows(heads, rows)])


def _seeds(results: Results) -> str:
    rows = []
    for name, runs in results.runs.items():
        for level in LEVELS:
            cells = [f"{100 * accuracy(run.at_responses, level):.1f}" for run in runs]
            greedy = fmean(accuracy(run.at_responses, level, "greedy") for run in runs)
            parsed = fmean(accuracy(run.at_responses, level, "parsed") for run in runs)
            rows.append(
                [
                    ARMS[name].label if level == LEVELS[0] else "",
                    level,
                    ", ".join(cells),
                    f"{100 * greedy:.1f}",
                    f"{100 * parsed:.1f}",
                ]
            )
    return "\n".join(["## Seed by seed", "", _rows(["", "level", "sampled, by seed", "greedy", "readable"], rows)])


def _span(values: Sequence[int]) -> str:
    return f"{min(values):,}" if min(values) == max(values) else f"{min(values):,} to {max(values):,}"


def _interval(found: Estimate) -> str:
    return f"{100 * (found.value or 0):.1f} [{100 * (found.low or 0):.1f}, {100 * (found.high or 0):.1f}]"


def _gap(found: Difference) -> str:
    low, high = found.estimate.low or 0, found.estimate.high or 0
    return f"{_signed(found.estimate.value or 0)} [{100 * low:.1f}, {100 * high:.1f}]"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}"


def _p(found: Difference) -> str:
    return "" if found.p is None else "< 0.001" if found.p < 0.001 else f"{found.p:.3f}"


def _rows(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
