"""The runs in MLflow: the pipeline run's own, and a nested one for each step and round.

Where Kubeflow hands down an MLflow run (MLFLOW_RUN_ID: the task's own, nested in the pipeline run's), these two are
used, and their status is left to Kubeflow.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from components.shared.context import StepContext
from components.shared.ledger import code_version
from components.shared.tracking.client import open_client, quoted, sqlite_path, with_retries

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

RUN_TAG, STEP_TAG, ROUND_TAG, CODE_TAG = "deepvideo.run", "deepvideo.step", "deepvideo.round", "deepvideo.code"
_PARENT = "mlflow.parentRunId"  # MLflow's own tag
_NAME = "mlflow.runName"


class TrackingWarning(UserWarning):
    """Something could not be written to the tracking store."""


@dataclass
class TrackedRun:
    """A run in MLflow; without `client` nothing is tracked, or the store failed. `parent` is a nested run's."""

    run_id: str = ""
    client: MlflowClient | None = None
    handed_down: bool = False  # Kubeflow's own run: its status is not ours to set
    parent: TrackedRun | None = None
    warnings: list[str] = field(default_factory=list)

    def attempt(self, what: str, action: Callable[[MlflowClient], object]) -> None:
        """Do `action`, again if need be. Once it failed for good the run takes nothing more, and says so."""
        if self.client is None:
            return
        client = self.client
        try:
            with_retries(lambda: action(client))
        except Exception as error:
            self.client = None
            self.note(f"{what} and all that would follow is lost: {_brief(error)}")

    def open(self, what: str, find: Callable[[], tuple[MlflowClient, str, bool]]) -> None:
        """Point this record at the run (client, id, handed down) that `find` gives; a failure is a warning."""
        try:
            self.client, self.run_id, self.handed_down = with_retries(find)
        except Exception as error:
            self.note(f"{what} is not tracked: {_brief(error)}")

    def note(self, text: str) -> None:
        """Add a warning."""
        self.warnings.append(text)
        warnings.warn(f"MLflow: {text}", TrackingWarning, stacklevel=3)

    def terminate(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED, unless it is Kubeflow's."""
        if not self.handed_down:
            self.attempt("the run's end", lambda client: client.set_terminated(self.run_id, status))


def parent_run(context: StepContext) -> TrackedRun:
    """The pipeline run's own run in MLflow, found by its name or created, and set to running.

    A rerun of the same name adopts the run of the earlier try.
    """
    run = TrackedRun()
    uri = tracking_uri(context)
    if not uri:
        return run

    def find() -> tuple[MlflowClient, str, bool]:
        client = open_client(uri)
        handed = _handed_down(client)
        identity = {RUN_TAG: context.run_name, STEP_TAG: "pipeline"}
        more = {CODE_TAG: code_version()}
        if handed:
            run_id = handed.data.tags.get(_PARENT, handed.info.run_id)
            _set_tags(client, run_id, {RUN_TAG: context.run_name} | more)
        elif context.parent_run_id:
            run_id = context.parent_run_id
        else:
            experiment = _experiment_id(client, uri, context.experiment)
            run_id = _find_or_create(client, experiment, context.run_name, identity, more)
        if not handed:
            _set_running(client, run_id)
        return client, run_id, handed is not None

    run.open(f"run {context.run_name!r}", find)
    return run


def finish_parent(context: StepContext, status: str = "FINISHED") -> TrackedRun:
    """End the pipeline run's own run as FINISHED, FAILED or KILLED."""
    run = parent_run(context)
    run.terminate(status)
    return run


@contextmanager
def step_run(context: StepContext, step: str, *, began_seconds_ago: float = 0.0) -> Iterator[TrackedRun]:
    """The nested run of a step in `context.round`, found by its tags or created; FAILED if the block raises."""
    parent = parent_run(context)
    run = TrackedRun(parent=parent, warnings=list(parent.warnings))
    if parent.client is not None:
        client = parent.client

        def find() -> tuple[MlflowClient, str, bool]:
            identity = {_PARENT: parent.run_id, STEP_TAG: step, ROUND_TAG: str(context.round)}
            handed = _handed_down(client)
            if handed and handed.info.run_id != parent.run_id and handed.data.tags.get(STEP_TAG, step) == step:
                _set_tags(client, handed.info.run_id, identity)
                return client, handed.info.run_id, True
            name = f"{step}, round {context.round}" if context.round else step
            experiment = client.get_run(parent.run_id).info.experiment_id
            run_id = _find_or_create(client, experiment, name, identity, {}, began_seconds_ago)
            _set_running(client, run_id)
            return client, run_id, False

        run.open(f"step {step}", find)
    try:
        yield run
    except BaseException:
        run.terminate("FAILED")
        raise
    run.terminate("FINISHED")


def tracking_uri(context: StepContext) -> str:
    """The context's URI; where that is empty and Kubeflow hands down a run, the URI that comes with it."""
    handed = os.environ.get("MLFLOW_TRACKING_URI", "") if os.environ.get("MLFLOW_RUN_ID") else ""
    return context.tracking_uri or handed


def _handed_down(client: MlflowClient) -> Run | None:
    """Kubeflow's run of this task. MLflow's fluent API deletes the variable at its first use; nothing here uses it."""
    run_id = os.environ.get("MLFLOW_RUN_ID", "")
    return client.get_run(run_id) if run_id else None


def _experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """The experiment's id. A SQLite file gets a folder for artifacts beside it, not in the current directory."""
    from mlflow.exceptions import MlflowException

    if found := client.get_experiment_by_name(name):
        return found.experiment_id
    path = sqlite_path(uri)
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
    began_seconds_ago: float = 0.0,
) -> str:
    """The id of the oldest run with the tags of `identity`, else of a new one that has them and `more`."""
    condition = " and ".join(f"tags.`{tag}` = {quoted(value)}" for tag, value in identity.items())
    found = client.search_runs([experiment], condition, max_results=1, order_by=["attributes.start_time ASC"])
    if found:
        _set_tags(client, found[0].info.run_id, more)
        return found[0].info.run_id
    begun = int((time.time() - began_seconds_ago) * 1000)
    run = client.create_run(experiment, start_time=begun, tags={_NAME: name, **identity, **more}, run_name=name)
    return run.info.run_id


def _set_running(client: MlflowClient, run_id: str) -> None:
    if client.get_run(run_id).info.status != "RUNNING":
        client.update_run(run_id, status="RUNNING")


def _set_tags(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    for name, value in tags.items():
        client.set_tag(run_id, name, value)


def _brief(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"
