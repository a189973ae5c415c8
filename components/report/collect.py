"""From what the steps reported to the summary. A figure that a step owes and did not report is an error."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from components.report.summary import (
    Compared,
    DataSummary,
    Histogram,
    LevelSummary,
    PromotionSummary,
    RoundSummary,
    StepSeconds,
    Timings,
    WarmupSummary,
)
from components.shared.dataset import DatasetReader
from components.shared.reports import StepReport
from components.shared.statistics import Estimate

SAMPLING_STEPS = ("difficulty", "augmentation", "rollout")
ROUND_STEPS = (*SAMPLING_STEPS, "training")
# the training step's series that the report draws, one value an optimizer step
SERIES = ("loss", "kl", "entropy", "grad_norm", "rho_std")


class MissingFigure(ValueError):
    """A step did not report a figure that the report shows."""


def figure(report: StepReport, name: str) -> Any:
    """A figure by name. Raises MissingFigure with the step, the round and the name."""
    if name not in report.results:
        where = f"{report.step}, round {report.round}" if report.round else report.step
        known = ", ".join(sorted(report.results)) or "nothing"
        raise MissingFigure(f"{where}: results.{name} is missing; the step reported {known}")
    return report.results[name]


def only(reports: Sequence[StepReport], step: str, number: int = 0) -> StepReport:
    """The report of a step in a round. Raises MissingFigure if there is none, or more than one."""
    found = [report for report in reports if report.step == step and report.round == number]
    if len(found) != 1:
        raise MissingFigure(f"{step}, round {number}: expected one report of the step, got {len(found)}")
    return found[0]


def warmup(reports: Sequence[StepReport]) -> WarmupSummary | None:
    """The warm-up before the first round; None if the run has none."""
    if not any(report.step == "warmup" for report in reports):
        return None
    report = only(reports, "warmup")
    same = ("samples", "optimizer_steps", "loss_first_epoch", "loss_last_epoch")
    return WarmupSummary(
        epochs=figure(report, "num_train_epochs"),
        answers=figure(report, "targets/answer"),
        left_out=figure(report, "samples_without_target") + figure(report, "samples_too_long"),
        policy_digest=report.digests["policy"],
        **{name: figure(report, name) for name in same},
    )


def rounds(reports: Sequence[StepReport]) -> list[RoundSummary]:
    """The rounds of a run, in order."""
    numbers = sorted({report.round for report in reports if report.round})
    return [_round(number, [only(reports, step, number) for step in ROUND_STEPS]) for number in numbers]


def _round(number: int, steps: list[StepReport]) -> RoundSummary:
    difficulty, augmentation, rollout, training = steps
    if "policy" not in training.digests:
        raise MissingFigure(f"training, round {number}: digests.policy is missing")
    common: dict[str, Any] = {
        "policy_digest": training.digests["policy"],
        "seconds": {step.step: step.seconds for step in steps},
        "startup_seconds": {step.step: step.startup_seconds for step in steps},
    }
    for step in steps:
        if reason := step.results.get("skipped"):
            return RoundSummary(round=number, skipped=str(reason), **common)
    rewards = {
        name.split("/")[1]: value
        for name, value in rollout.results.items()
        if name.startswith("rewards/") and name.endswith("/mean")
    }
    return RoundSummary(
        round=number,
        prompts=figure(difficulty, "samples"),
        accuracy_unaugmented=figure(difficulty, "accuracy_rate"),
        reward=figure(rollout, "reward"),
        rewards=rewards,
        reward_unaugmented=figure(difficulty, "reward"),
        frac_reward_zero_std=figure(rollout, "frac_reward_zero_std"),
        frac_reward_zero_std_unaugmented=figure(rollout, "frac_reward_zero_std_unaugmented"),
        difficulty=Histogram.model_validate(figure(difficulty, "difficulty_histogram")),
        augmentation={kind: figure(augmentation, f"augmented/{kind}") for kind in ("none", "hint", "noise", "mask")},
        unaugmented_reasons=figure(augmentation, "not_augmented_reasons"),
        loss=_mean(_series(training)["loss"]),
        kl=_mean(_series(training)["kl"]),
        optimizer_steps=figure(training, "optimizer_steps"),
        skipped_steps=figure(training, "skipped_steps"),
        **common,
    )


def _series(training: StepReport) -> dict[str, list[float | None]]:
    """A round's curves, one value an optimizer step; None where it is not defined or not finite."""
    series = figure(training, "series")
    for name in ("global_step", *SERIES):
        if not series.get(name) or len(series[name]) != len(series["global_step"]):
            raise MissingFigure(f"training, round {training.round}: results.series.{name} does not have a value a step")
    return series


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return fmean(defined) if defined else None


def training_series(reports: Sequence[StepReport]) -> dict[str, list[float | None]]:
    """The curves of all rounds, one value an optimizer step: step, round, and those of SERIES."""
    joined: dict[str, list[float | None]] = {name: [] for name in ("step", "round", *SERIES)}
    ran = [report for report in reports if report.step == "training" and "skipped" not in report.results]
    for report in sorted(ran, key=lambda report: report.round):
        series = _series(report)
        joined["step"] += series["global_step"]
        joined["round"] += [report.round] * len(series["global_step"])
        for name in SERIES:
            joined[name] += series[name]
    return joined


def rollouts(reports: Sequence[StepReport]) -> dict[int, list[dict[str, Any]]]:
    """The rollout step's examples by round: those of the first and of the last round that ran."""
    ran = sorted(
        (report for report in reports if report.step == "rollout" and "skipped" not in report.results),
        key=lambda report: report.round,
    )
    return {report.round: figure(report, "examples") for report in (ran[:1] + ran[-1:])}


def engines(reports: Sequence[StepReport]) -> dict[str, str]:
    """Name -> version of the engines that the steps used; several versions stand side by side."""
    versions: dict[str, set[str]] = {}
    for report in reports:
        for name, version in report.results.get("engines", {}).items():
            versions.setdefault(name, set()).add(version)
    if not versions:
        raise MissingFigure("no step reported results.engines: the versions of the engines that ran are not known")
    return {name: ", ".join(sorted(found)) for name, found in sorted(versions.items())}


def data(reader: DatasetReader, digest: str) -> DataSummary:
    """What the dataset artifact holds and what was left out of it."""
    samples = reader.samples()
    return DataSummary(
        digest=digest,
        samples={split: sum(sample.split == split for sample in samples) for split in reader.splits()},
        videos=len({sample.video for sample in samples}),
        quarantined=tuple(reader.quarantine()),
    )


def evaluation(before: dict[str, Any], after: dict[str, Any]) -> dict[str, LevelSummary]:
    """The scores by level, from two scores.json of which `after` was made with `before` as its baseline."""
    if not after["changes"]:
        raise MissingFigure("scores_after: `changes` is empty; evaluate with the base's scores as baseline")
    return {
        name: _level(before["levels"][name], level, after["changes"][name]) for name, level in after["levels"].items()
    }


def _level(before: dict[str, Any], after: dict[str, Any], change: dict[str, Any]) -> LevelSummary:
    return LevelSummary(
        metric=after["metric"],
        questions=after["questions"],
        videos=after["videos"],
        gained=change["gained"],
        lost=change["lost"],
        figures={
            name: Compared(
                before=Estimate(**before["figures"][name]),
                after=Estimate(**after["figures"][name]),
                difference=Estimate(**difference),
            )
            for name, difference in change["figures"].items()
        },
    )


def kinds(before: dict[str, Any], after: dict[str, Any], level: str) -> list[dict[str, Any]]:
    """The sampled scores of a level by kind of question."""
    found = before["levels"].get(level, {}).get("kinds", {})
    return [
        {
            "kind": kind,
            "questions": described["questions"],
            "before": described["figures"]["sampled"],
            "after": after["levels"][level]["kinds"][kind]["figures"]["sampled"],
        }
        for kind, described in found.items()
    ]


def flips(folder: Path, direction: str) -> list[dict[str, str]]:
    """The greedy answers that turned right (`gained`) or wrong (`lost`), of the levels that are no promotion split."""
    from components.shared.scores import FLIPS

    rows = [json.loads(line) for line in (folder / FLIPS).read_text().splitlines()]
    return [row for row in rows if row["direction"] == direction]


def promotion(report: StepReport) -> PromotionSummary:
    """What became of the candidate."""
    difference = Estimate(*(figure(report, name) for name in ("difference", "low", "high")))
    names = ("promoted", "reason", "reasons", "registered_model", "alias", "version", "champion_before")
    return PromotionSummary(difference=difference, **{name: figure(report, name) for name in names})


def timings(reports: Iterable[StepReport]) -> Timings:
    """Where the run's time went, by step in the order in which they first ran."""
    by_step: dict[str, list[StepReport]] = {}
    for report in reports:
        by_step.setdefault(report.step, []).append(report)
    steps = tuple(
        StepSeconds(
            step=step,
            runs=sum("skipped" not in report.results for report in found),
            seconds=sum(report.seconds for report in found),
            startup_seconds=sum(report.startup_seconds for report in found),
        )
        for step, found in by_step.items()
    )
    startup = sum(step.startup_seconds for step in steps)
    total = startup + sum(step.seconds for step in steps)
    return Timings(
        total_seconds=total, startup_seconds=startup, startup_share=startup / total if total else 0.0, steps=steps
    )
