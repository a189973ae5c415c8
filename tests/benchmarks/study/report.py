"""What is shown while a study runs, and what is left of it: progress, the small table at the end, page and plots."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

from components.shared.engines import engine_version
from components.shared.files import write_atomic
from tests.benchmarks.study.arms import ARMS, BASE, Plan
from tests.benchmarks.study.claims import LEVELS
from tests.benchmarks.study.comparisons import difference, mean
from tests.benchmarks.study.page import Results, page
from tests.benchmarks.study.records import Questions, RunRecord, accuracy, code_version, read
from tests.benchmarks.study.schedule import RAW, TUNING, Job, Study, expected_seconds
from tests.benchmarks.study.workplace import Inputs

QUESTIONS, ABOUT = "questions.json", "about.json"


class Progress:
    """How far the study is: a bar with the time left, and a line a finished run."""

    def __init__(self, study: Study, only: set[str], processes: int, console: Console) -> None:
        self.study, self.processes, self.console = study, processes, console
        arms = [arm for arm in study.arms() if arm.name in only]
        every = [job for arm in arms for job in (*study.tuning_jobs(arm), *study.jobs(arm))]
        self.left = {_name(job): expected_seconds(job, study.plan) for job in every}
        self.expected = self.measured = 0.0
        self.cached, self.started = 0, time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("runs, {task.fields[rest]}"),
        )
        self.bar = Bar(*columns, console=console)
        self.task = self.bar.add_task(study.plan.name, total=len(every), rest="")

    def __enter__(self) -> Progress:
        total = _duration(sum(self.left.values()) / self.processes)
        self.console.print(f"{len(self.left)} runs, about {total} on {self.processes} cores where none is done yet")
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.stop()
        if kind is not None:
            self.console.print("Stopped. The same command goes on; finished runs are kept.")

    def done(self, job: Job, found: RunRecord, cached: bool) -> None:
        """A run is done; `cached`: it was there before."""
        expected = self.left.pop(_name(job))
        if cached:
            self.cached += 1
        else:
            self.expected, self.measured = self.expected + expected, self.measured + sum(found.seconds.values())
            scores = {level: accuracy(found.at_responses, level) for level in sorted(found.at_responses.levels)}
            said = ", ".join(f"{level} {100 * score:.1f} %" for level, score in scores.items())
            self.console.print(f"✓ {job.title}: {said} ({sum(found.seconds.values()):.0f} s)")
        rest = f"about {_duration(self.left_seconds())} left" if self.left else "all done"
        self.bar.update(self.task, advance=1, rest=f"{self.cached} of them from before, {rest}")

    def left_seconds(self) -> float:
        """Wall seconds left: what was expected of the runs that are left, scaled by what the others really took."""
        scale = self.measured / self.expected if self.expected else 1.0
        return scale * sum(self.left.values()) / self.processes


def _name(job: Job) -> str:
    return f"{job.tuning}/{job.path.name}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{max(1, minutes)} min"


def collect(plan: Plan, folder: Path) -> Results:
    """What lies in `folder`, whatever code made it. Raises ValueError if there is nothing."""
    runs = {arm: _read(folder / RAW, f"{arm}-seed*.json") for arm in plan.arms}
    tuning = {arm: _read(folder / RAW / TUNING, f"{arm}-*.json") for arm in plan.arms}
    runs, tuning = ({arm: of[arm] for arm in plan.arms if of[arm]} for of in (runs, tuning))
    if not runs:
        raise ValueError(f"{folder / RAW}: no run is finished there: run the study first, without --render")
    questions = Questions.model_validate_json((folder / QUESTIONS).read_text())
    return Results(plan, runs, tuning, questions, json.loads((folder / ABOUT).read_text()))


def _read(folder: Path, pattern: str) -> list[RunRecord]:
    found = [read(path) for path in sorted(folder.glob(pattern))]
    return sorted((one for one in found if one is not None), key=lambda one: (one.seed, one.learning_rate or 0))


def engines(inputs: Inputs) -> dict[str, str]:
    """What the page says about what was run."""
    versions = ", ".join(f"{name} {engine_version(name)}" for name in ("torch", "transformers"))
    return {
        "base model": inputs.policy.digest[:12],
        "data": inputs.dataset.digest[:12],
        "code": code_version()[:12],
        "engines": versions,
    }


def write_page(results: Results, folder: Path, console: Console) -> None:
    """The plots, the page beside the folder of raw figures, and a small table on the terminal."""
    from tests.benchmarks.study.plots import draw

    plots = [f"{folder.name}/{name}" for name in draw(results.runs, folder)]
    path = write_atomic(folder.with_suffix(".md"), page(results, plots))
    console.print(_small_table(results))
    if results.plan.name != "study":
        console.print("This is the quick one: too few seeds, questions and responses to decide anything.")
    console.print(f"Page: {path}")


def _small_table(results: Results) -> Table:
    shown = Table("", "seeds", *LEVELS, "L1 above base", title="per cent right at equal responses, 95 % interval")
    base = results.runs.get(BASE)
    for name, runs in results.runs.items():
        found = [mean(runs, results.questions, level) for level in LEVELS]
        cells = [f"{100 * (e.value or 0):.1f} [{100 * (e.low or 0):.1f}, {100 * (e.high or 0):.1f}]" for e in found]
        gain = difference(runs, base, results.questions, "L1").estimate.value if base and name != BASE else None
        shown.add_row(ARMS[name].label, str(len(runs)), *cells, "" if gain is None else f"{100 * gain:+.1f}")
    return shown
