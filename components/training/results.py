"""What a trained round leaves: its artifacts in the store, and its figures for ledger, report and tracking."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from components.shared.schemas import ArtifactRef, Group, Record
from components.training.spec import POLICY, STATE, Report, Work
from components.training.state import read_progress, write_progress

_NOT_AVERAGED = ("step", "num_tokens", "skipped")


class Trained(Record):
    """A trained round or warm-up."""

    artifacts: dict[str, ArtifactRef]  # policy, and a round's state
    stop_reason: str
    report: Report


def store_trained(work: Work, output: Path, report: Report) -> Trained:
    """Put what the workers wrote below `output` into the store. The state is told which policy it belongs to."""
    store = work.context.open_store()
    policy = store.put(output / POLICY, "policy", {**work.policy.metadata, **work.noted})
    if work.state is None:
        return Trained(artifacts={"policy": policy}, stop_reason="", report=report)
    progress = read_progress(output / STATE).model_copy(update={"policy": policy.digest})
    write_progress(output / STATE, progress)
    state = store.put(
        output / STATE,
        "state",
        {**work.noted, "global_step": progress.global_step, "stop_reason": progress.stop_reason},
    )
    return Trained(artifacts={"policy": policy, "state": state}, stop_reason=progress.stop_reason, report=report)


def round_results(groups: Sequence[Group], report: Report, stop_reason: str) -> dict[str, object]:
    """Means over the round's optimizer steps as `round/<metric>`, and counts.

    Every step's are there as `steps`, a row a step, and as `series`, a list a metric. A value is None where it is not
    defined or not finite; means leave it out.
    """
    first, *_ = report.metrics
    series = {name: [step[name] for step in report.metrics] for name in first}
    means = {}
    for name, values in series.items():
        defined = [value for value in values if value is not None]
        if name not in _NOT_AVERAGED and defined:
            means[f"round/{name}"] = fmean(defined)
    return {
        **means,
        "groups": len(groups),
        "responses": sum(len(group.responses) for group in groups),
        "optimizer_steps": len(report.metrics) - report.skipped_steps,
        "skipped_steps": report.skipped_steps,
        "num_tokens": report.metrics[-1]["num_tokens"],
        "frozen_tensors_verified": report.frozen_tensors,
        "rho_std_at_unchanged_weights": report.noise,
        "stop_reason": stop_reason,
        "engines": report.engines,
        "steps": list(report.metrics),
        "series": {"global_step": series.pop("step"), **series},
    }
