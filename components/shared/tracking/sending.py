"""Writing an entry into MLflow: only what is not there yet, so that it can be done again after any failure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from components.shared.context import StepContext
from components.shared.schemas import ArtifactRef
from components.shared.store import MANIFEST
from components.shared.tracking.entries import PIPELINE, Entry, Packet, Value
from components.shared.tracking.names import BATCH_METRICS, BATCH_PARAMS
from components.shared.tracking.runs import end_nested, find_run

if TYPE_CHECKING:
    from mlflow import MlflowClient

_DATASET_DIGEST = 36  # characters; MLflow's limit, a SHA-256 in hex has 64
_CONTEXT_TAG = "mlflow.data.context"  # MLflow's own tag: what a dataset was used for


def send_packet(client: MlflowClient, packet: Packet) -> list[str]:
    """Write all entries of a packet. Returns warnings; raises what MLflow raises, and can then be called again."""
    return [text for entry in packet.entries for text in _send(client, packet.context, entry)]


def _send(client: MlflowClient, context: StepContext, entry: Entry) -> list[str]:
    run_id, ours = find_run(client, context, entry.step, entry.round, entry.began)
    if entry.tags:
        from mlflow.entities import RunTag

        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in entry.tags.items()])
    differing = _log_params(client, run_id, entry.params)
    _log_metrics(client, run_id, entry.metrics)
    _log_datasets(client, run_id, entry.datasets)
    for ref, folder in entry.files:
        _attach(client, run_id, context, ref, folder)
    if ours and entry.status == "RUNNING":
        if client.get_run(run_id).info.status != "RUNNING":
            client.update_run(run_id, status="RUNNING")
    elif ours and entry.status:
        if entry.step == PIPELINE:
            end_nested(client, run_id, entry.status, entry.ended)
        client.set_terminated(run_id, entry.status, entry.ended or None)
    if differing:
        return [f"a run keeps its first settings in MLflow; this try's differ in {differing}"]
    return []


def _log_params(client: MlflowClient, run_id: str, params: dict[str, str]) -> list[str]:
    """Write the parameters that are not there; returns the names of those that are there with another value."""
    if not params:
        return []
    from mlflow.entities import Param

    there = client.get_run(run_id).data.params
    new = [Param(name, value) for name, value in params.items() if name not in there]
    for start in range(0, len(new), BATCH_PARAMS):
        client.log_batch(run_id, params=new[start : start + BATCH_PARAMS])
    return [name for name, value in params.items() if there.get(name, value) != value]


def _log_metrics(client: MlflowClient, run_id: str, metrics: tuple[Value, ...]) -> None:
    """Write the values whose (name, step) the run does not have."""
    if not metrics:
        return
    from mlflow.entities import Metric

    there = _logged(client, run_id, {item.name for item in metrics})
    new = [
        Metric(item.name, item.value, item.time, item.step) for item in metrics if (item.name, item.step) not in there
    ]
    for start in range(0, len(new), BATCH_METRICS):
        client.log_batch(run_id, metrics=new[start : start + BATCH_METRICS])


def _logged(client: MlflowClient, run_id: str, names: set[str]) -> set[tuple[str, int]]:
    """(name, step) of what the run holds. A name without any value costs no query."""
    known = names & set(client.get_run(run_id).data.metrics)
    return {(name, metric.step) for name in known for metric in client.get_metric_history(run_id, name)}


def _log_datasets(client: MlflowClient, run_id: str, datasets: Iterable[tuple[str, ArtifactRef]]) -> None:
    """Datasets as the run's inputs; MLflow knows them by name and digest, which is cut to the length that it takes."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for use, ref in datasets:
        source = json.dumps({"uri": ref.uri, "digest": ref.digest})
        profile = json.dumps({"bytes": ref.size, **ref.metadata})
        dataset = Dataset(ref.kind, ref.digest[:_DATASET_DIGEST], "artifact store", source, profile=profile)
        inputs.append(DatasetInput(dataset, [InputTag(_CONTEXT_TAG, use)]))
    if inputs:
        client.log_inputs(run_id, datasets=inputs)


def _attach(client: MlflowClient, run_id: str, context: StepContext, ref: ArtifactRef, folder: str) -> None:
    """The files of an artifact (HTML, figures), without its manifest, below `folder`."""
    for path in sorted(context.open_store().get(ref).iterdir()):
        if path.is_dir():
            client.log_artifacts(run_id, str(path), f"{folder}/{path.name}")
        elif path.name != MANIFEST:
            client.log_artifact(run_id, str(path), folder)
