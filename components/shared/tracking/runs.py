"""The runs in MLflow: the pipeline run's own, and a nested one for each step and round.

They are found by their tags, or created. Where Kubeflow hands down an MLflow run (the task's own, nested in the pipeline
run's), these two are used, get the same tags, and their status is left to Kubeflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from components.shared.context import StepContext
from components.shared.ledger import code_version
from components.shared.tracking.client import quoted, sqlite_path
from components.shared.tracking.entries import PIPELINE, now

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

RUN_TAG, STEP_TAG, ROUND_TAG, CODE_TAG = "deepvideo.run", "deepvideo.step", "deepvideo.round", "deepvideo.code"
_PARENT = "mlflow.parentRunId"  # MLflow's own tag
_NAME = "mlflow.runName"


def find_run(
    client: MlflowClient, context: StepContext, step: str, round_index: int = 0, began: int = 0
) -> tuple[str, bool]:
    """(id, whether its status is ours to set) of a step's run in a round, or of the pipeline run's own (PIPELINE).

    A new one begins at `began` (ms since 1970; 0: now).
    """
    parent = find_parent(client, context, began if step == PIPELINE else 0)
    if step == PIPELINE:
        return parent, not context.task_run_id
    place = {STEP_TAG: step, ROUND_TAG: str(round_index)}
    if context.task_run_id:
        run = client.get_run(context.task_run_id)
        if run.info.run_id != parent and {**place, **run.data.tags}.items() >= place.items():
            _set_tags(client, run, place | {RUN_TAG: context.run_name})
            return run.info.run_id, False
    name = f"{step}, round {round_index}" if round_index else step
    experiment = client.get_run(parent).info.experiment_id
    identity = {_PARENT: parent, **place}
    return _find_or_create(client, experiment, name, identity, {RUN_TAG: context.run_name}, began), True


def end_nested(client: MlflowClient, parent: str, status: str, ended: int) -> None:
    """End, with their parent, the runs that a killed step left open, and delete those that only a lost request made."""
    experiment = client.get_run(parent).info.experiment_id
    known: set[tuple[str, str]] = set()
    nested = client.search_runs([experiment], f"tags.`{_PARENT}` = '{parent}'", order_by=["attributes.start_time ASC"])
    for run in sorted(nested, key=lambda run: not run.data.metrics):
        place = (run.data.tags.get(STEP_TAG, ""), run.data.tags.get(ROUND_TAG, ""))
        if place in known and not run.data.metrics:
            client.delete_run(run.info.run_id)
        elif run.info.status == "RUNNING":
            client.set_terminated(run.info.run_id, status, ended)
        known.add(place)


def find_parent(client: MlflowClient, context: StepContext, began: int = 0) -> str:
    """The id of the pipeline run's own run: the context's, Kubeflow's, or the one that has its name, made if need be.

    A rerun of the same name adopts the run of the earlier try.
    """
    if context.parent_run_id:
        return context.parent_run_id
    identity, more = {RUN_TAG: context.run_name, STEP_TAG: PIPELINE}, {CODE_TAG: code_version()}
    if context.task_run_id:
        run = client.get_run(context.task_run_id)
        while above := run.data.tags.get(_PARENT):  # Kubeflow nests a task inside its round
            run = client.get_run(above)
        _set_tags(client, run, identity | more)
        return run.info.run_id
    return _find_or_create(client, _experiment_id(client, context), context.run_name, identity, more, began)


def _experiment_id(client: MlflowClient, context: StepContext) -> str:
    """The experiment's id. A SQLite file gets a folder for artifacts beside it, not in the current directory."""
    from mlflow.exceptions import MlflowException

    name = context.experiment
    if found := client.get_experiment_by_name(name):
        return found.experiment_id
    path = sqlite_path(context.tracking_uri)
    location = (path.parent / "mlartifacts").as_uri() if path else None
    try:
        return client.create_experiment(name, artifact_location=location)
    except MlflowException:  # another process created it first
        if found := client.get_experiment_by_name(name):
            return found.experiment_id
        raise


def _find_or_create(
    client: MlflowClient,
    experiment: str,
    name: str,
    identity: Mapping[str, str],
    more: Mapping[str, str],
    began: int,
) -> str:
    """The id of the oldest run with the tags of `identity`, else of a new one that has them and `more`.

    A request to make a run that was given up may still be carried out: of several runs those without figures do not count.
    """
    condition = " and ".join(f"tags.`{tag}` = {quoted(value)}" for tag, value in identity.items())
    runs = client.search_runs([experiment], condition, max_results=100, order_by=["attributes.start_time ASC"])
    if found := [run for run in runs if run.data.metrics] or list(runs):
        _set_tags(client, found[0], more)
        return found[0].info.run_id
    tags = {_NAME: name, **identity, **more}
    return client.create_run(experiment, start_time=began or now(), tags=tags, run_name=name).info.run_id


def _set_tags(client: MlflowClient, run: Run, tags: Mapping[str, str]) -> None:
    for name, value in tags.items():
        if run.data.tags.get(name) != value:
            client.set_tag(run.info.run_id, name, value)
