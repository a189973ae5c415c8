"""What is written into a run: series of figures, settings, datasets and files, each only if it is not there already."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.schemas import ArtifactRef
from components.shared.tracking.names import BATCH_METRICS, BATCH_PARAMS, flat_params, is_number, legal_name
from components.shared.tracking.runs import TrackedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient

_DATASET_DIGEST = 36  # characters; MLflow's limit, a SHA-256 in hex has 64


def log_series(run: TrackedRun, rows: Sequence[Mapping[str, Any]], step_key: str = "step") -> None:
    """Log rows of numbers, each at its row's `step_key`; every (name, step) once in the run's life, whoever repeats it.

    What is no number is left out; what is not finite too, with a warning that names it.
    """
    values: dict[tuple[str, int], float] = {}
    infinite: set[str] = set()
    for row in rows:
        for name, value in row.items():
            if name == step_key or not is_number(value):
                continue
            if math.isfinite(value):
                values.setdefault((legal_name(name), int(row[step_key])), float(value))
            else:
                infinite.add(name)
    now = int(time.time() * 1000)  # one time for all tries: MLflow drops an equal entry

    def log(client: MlflowClient) -> None:
        from mlflow.entities import Metric

        there = _logged(client, run.run_id, {name for name, _ in values})
        new = [Metric(name, value, now, step) for (name, step), value in values.items() if (name, step) not in there]
        for start in range(0, len(new), BATCH_METRICS):
            client.log_batch(run.run_id, metrics=new[start : start + BATCH_METRICS])

    run.attempt("a series of figures", log)
    if infinite:
        run.note(f"values that are not finite were left out of {sorted(infinite)}")


def _logged(client: MlflowClient, run_id: str, names: set[str]) -> set[tuple[str, int]]:
    """(name, step) of what the run holds. A name without any value costs no query."""
    known = names & set(client.get_run(run_id).data.metrics)
    return {(name, metric.step) for name in known for metric in client.get_metric_history(run_id, name)}


def log_params(run: TrackedRun, settings: Mapping[str, Any]) -> None:
    """Log settings as parameters named `section.field`. What is there already stays; a warning names what differs."""
    params = flat_params(settings)
    differing: list[str] = []

    def log(client: MlflowClient) -> None:
        from mlflow.entities import Param

        there = client.get_run(run.run_id).data.params
        differing[:] = [name for name, value in params.items() if there.get(name, value) != value]
        new = [Param(name, value) for name, value in params.items() if name not in there]
        for start in range(0, len(new), BATCH_PARAMS):
            client.log_batch(run.run_id, params=new[start : start + BATCH_PARAMS])

    run.attempt("the settings", log)
    if differing:
        run.note(f"a run keeps its first settings in MLflow; this try's differ in {differing}")


def log_dataset(run: TrackedRun, ref: ArtifactRef, name: str = "dataset") -> None:
    """Log a dataset artifact as the run's input. The digest is cut to the 36 characters that MLflow takes."""

    def log(client: MlflowClient) -> None:
        from mlflow.entities import Dataset, DatasetInput

        source = json.dumps({"uri": ref.uri, "digest": ref.digest})
        profile = json.dumps({"bytes": ref.size, **ref.metadata})
        dataset = Dataset(name, ref.digest[:_DATASET_DIGEST], "artifact store", source, profile=profile)
        client.log_inputs(run.run_id, datasets=[DatasetInput(dataset)])

    run.attempt(f"dataset {ref.digest[:12]}", log)


def log_files(run: TrackedRun, path: Path, folder: str) -> None:
    """Attach a file, or every file below a folder (HTML, figures), to the run under `folder`."""

    def log(client: MlflowClient) -> None:
        if path.is_file():
            client.log_artifact(run.run_id, str(path), folder)
        else:
            client.log_artifacts(run.run_id, str(path), folder)

    run.attempt(str(path), log)
