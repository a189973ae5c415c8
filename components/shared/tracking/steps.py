"""What a run's start and each finished step leave in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from components.shared.context import StepContext
from components.shared.ledger import Outputs
from components.shared.store import MANIFEST
from components.shared.tracking.contents import log_dataset, log_files, log_params, log_series
from components.shared.tracking.names import is_number
from components.shared.tracking.runs import TrackedRun, parent_run, step_run

if TYPE_CHECKING:
    from mlflow import MlflowClient


def start_parent(context: StepContext, settings: Mapping[str, Any]) -> str:
    """Open (or adopt) the pipeline run's own run and log its settings. Returns its id, empty if nothing is tracked."""
    run = parent_run(context)
    log_params(run, settings)
    return run.run_id


def track_step(context: StepContext, step: str, outputs: Outputs, after_round: int = 0) -> list[str]:
    """Write a finished step's outputs to MLflow, after its work is recorded in the ledger. Returns the warnings.

    The step's nested run gets the numbers among the results at their round (`context.round`; outside rounds
    `after_round`, the last one before it), each result that is a list of rows with a "step" as series, and the
    artifacts' URIs as tags. The parent, for comparing runs, gets the report's files and, at the same rounds, what is
    worth comparing: inside rounds all numbers as `<step>/<name>`, outside them those whose names have a group, as they
    are (`eval/L1/accuracy`). Counts and seconds outside rounds stay with their step: MLflow's compare page opens with
    the metric that was logged first. Both get the datasets.
    """
    at = context.round or after_round
    numbers = {name: float(value) for name, value in outputs.results.items() if is_number(value)}
    numbers |= {"seconds": outputs.seconds, "startup_seconds": outputs.startup_seconds}
    if context.round:
        headline = {f"{step}/{name}": value for name, value in numbers.items()}
    else:
        headline = {name: value for name, value in numbers.items() if "/" in name}
    with step_run(context, step, began_seconds_ago=outputs.seconds + outputs.startup_seconds) as run:
        log_series(run, [{"step": at, **numbers}])
        for rows in outputs.results.values():
            if isinstance(rows, list) and rows and all(isinstance(row, dict) and "step" in row for row in rows):
                log_series(run, rows)
        _tag_artifacts(run, outputs)
    parent = run.parent or run
    log_series(parent, [{"step": at, **headline}])
    for ref in outputs.artifacts.values():
        if ref.kind == "dataset":
            log_dataset(run, ref)
            log_dataset(parent, ref)
        if ref.kind == "report":
            for path in sorted(context.open_store().get(ref).iterdir()):
                if path.name != MANIFEST:
                    log_files(parent, path, "report" if path.is_file() else f"report/{path.name}")
    return [*run.warnings, *(text for text in parent.warnings if text not in run.warnings)]


def _tag_artifacts(run: TrackedRun, outputs: Outputs) -> None:
    def tag(client: MlflowClient) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(f"deepvideo.artifact.{name}", ref.uri) for name, ref in outputs.artifacts.items()]
        client.log_batch(run.run_id, tags=tags)

    run.attempt("the artifacts' URIs", tag)
