"""What a run's start, each finished step and the run's end leave in MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.shared.context import StepContext
from components.shared.ledger import Outputs
from components.shared.schemas import ArtifactRef
from components.shared.tracking.client import brief, open_client, with_retries
from components.shared.tracking.entries import PIPELINE, Entry, now, values
from components.shared.tracking.names import flat_params, is_number
from components.shared.tracking.runs import find_parent
from components.shared.tracking.spool import leave, send, send_patiently

_DATA = ("dataset", "groups")  # kinds of artifacts that are data to learn from


class TrackingError(RuntimeError):
    """MLflow cannot be reached when a run starts; the message names it and the remedy."""


def start_parent(context: StepContext, settings: Mapping[str, Any], tags: Mapping[str, str] | None = None) -> str:
    """Open (or adopt) the pipeline run's own run and log its settings. Returns its id, empty if nothing is tracked.

    Raises TrackingError if MLflow does not answer: that is better known before the work than after it.
    """
    uri = context.tracking_uri
    if not uri:
        return ""
    try:
        run_id = with_retries(lambda: find_parent(open_client(uri), context))
    except Exception as error:
        raise TrackingError(
            f"MLflow at {uri} cannot be used: {brief(error)}; start it, correct the tracking URI, or check"
            " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        ) from error
    known = context.model_copy(update={"parent_run_id": run_id})
    leave(known, [Entry(step=PIPELINE, status="RUNNING", params=flat_params(settings), tags=dict(tags or {}))])
    send(known)
    return run_id


def track_step(
    context: StepContext, step: str, outputs: Outputs, after_round: int = 0, inputs: Sequence[ArtifactRef] = ()
) -> list[str]:
    """Write a finished step's outputs to MLflow, after its work is recorded in the ledger. Returns the warnings.

    The step's nested run gets the numbers among the results at their round (`context.round`; outside rounds
    `after_round`, the last one before it), each result that is a list of rows with a "step" as series, the datasets
    among `inputs` and artifacts, and the artifacts' URIs as tags. The parent, for comparing runs, gets the report's
    files, the datasets that were made, the series on the one axis of the whole run as `<step>/steps/<name>`, and, at the
    rounds, what is worth comparing: inside rounds all numbers as `<step>/<name>`, outside them those whose names have a
    group, as they are (`eval/L1/accuracy`). Counts and seconds outside rounds stay with their step: MLflow's compare
    page opens with the metric that was logged first.

    What MLflow does not take now waits in the spool (tracking/spool.py).
    """
    if not context.tracking_uri:
        return []
    at = context.round or after_round
    numbers = {name: float(value) for name, value in outputs.results.items() if is_number(value)}
    numbers |= {"seconds": outputs.seconds, "startup_seconds": outputs.startup_seconds}
    if context.round:
        headline = {f"{step}/{name}": value for name, value in numbers.items()}
    else:
        headline = {name: value for name, value in numbers.items() if "/" in name}
    series = [row for rows in outputs.results.values() if _is_series(rows) for row in rows]  # type: ignore[attr-defined]
    of_step, infinite = values([{"step": at, **numbers}, *series])
    curve = [{name if name == "step" else f"{step}/steps/{name}": row[name] for name in row} for row in series]
    of_parent, _ = values([{"step": at, **headline}, *curve])
    made = [ref for ref in outputs.artifacts.values() if ref.kind in _DATA]
    used = [ref for ref in inputs if ref.kind in _DATA and ref not in made]
    ended = now()
    took = int(1000 * (outputs.seconds + outputs.startup_seconds))
    entries = [
        Entry(
            step=step,
            round=context.round,
            status="FINISHED",
            began=ended - took,
            ended=ended,
            tags={f"deepvideo.artifact.{name}": ref.uri for name, ref in outputs.artifacts.items()},
            metrics=tuple(of_step),
            datasets=tuple([(step, ref) for ref in used] + [("made", ref) for ref in made]),
        ),
        Entry(
            step=PIPELINE,
            status="RUNNING",
            metrics=tuple(of_parent),
            datasets=tuple((step, ref) for ref in made if ref.kind == "dataset"),
            files=tuple((ref, "report") for ref in outputs.artifacts.values() if ref.kind == "report"),
        ),
    ]
    leave(context, entries)
    told = [f"values that are not finite were left out of {infinite}"] if infinite else []
    return told + send(context)


def finish_parent(context: StepContext, status: str = "FINISHED", seconds: float = 0.0) -> list[str]:
    """End the pipeline run's own run as FINISHED, FAILED or KILLED, after all that waits. Returns the warnings.

    With `seconds`, MLflow is waited for that long.
    """
    leave(context, [Entry(step=PIPELINE, status=status, ended=now())])
    return send_patiently(context, seconds) if seconds else send(context)


def _is_series(rows: object) -> bool:
    return isinstance(rows, list) and bool(rows) and all(isinstance(row, dict) and "step" in row for row in rows)
