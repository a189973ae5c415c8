"""Runs side by side, read from MLflow: their held-out figures, their curves, and the settings in which they differ."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from components.shared.tracking.client import open_client, quoted, with_retries
from components.shared.tracking.entries import PIPELINE
from components.shared.tracking.registry import RegistryError
from components.shared.tracking.runs import CODE_TAG, RUN_TAG, STEP_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_DIFFERENCE = "_difference"
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_OURS = f"tags.`{STEP_TAG}` = '{PIPELINE}'"  # a pipeline run's own run, not one of its steps


@dataclass(frozen=True)
class Figure:
    """A held-out figure of a run, shares: the base policy's, the trained policy's, their paired difference's interval."""

    before: float
    after: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ComparedRun:
    """What one run brings into a comparison. `curves` has (round, share) by figure."""

    name: str
    run_id: str
    status: str
    figures: dict[str, Figure] = field(default_factory=dict)
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)


def read_runs(tracking_uri: str, names: Sequence[str]) -> list[ComparedRun]:
    """The runs of these names (as in reports, or Kubeflow's run ids) or MLflow ids.

    Raises RegistryError, naming the remedy, if MLflow cannot be read or has no such run.
    """
    try:
        client = open_client(tracking_uri)
        found = [with_retries(functools.partial(_find, client, name)) for name in names]
        return [_read(client, run) for run in found]
    except RegistryError:
        raise
    except Exception as error:
        raise RegistryError(
            f"MLflow at {tracking_uri} cannot be read: {error}; start it, or correct --tracking-uri"
        ) from error


def differing(runs: Sequence[ComparedRun]) -> dict[str, list[str]]:
    """Each setting whose values are not the same in all runs, with the values; "-" where a run has none."""
    names = sorted({name for run in runs for name in run.settings})
    values = {name: [run.settings.get(name, "-") for run in runs] for name in names}
    return {name: found for name, found in values.items() if len(set(found)) > 1}


def _find(client: MlflowClient, name: str) -> Run:
    experiments = [item.experiment_id for item in client.search_experiments()]
    if _RUN_ID.fullmatch(name):
        found = client.search_runs(experiments, f"attributes.run_id = '{name}'")
    else:
        found = client.search_runs(experiments, f"{_OURS} and tags.`{RUN_TAG}` = {quoted(name)}")
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(run.info.run_id for run in found)
        raise RegistryError(f"run {name!r}: MLflow has {len(found)} of that name; give one of their ids: {ids}")
    recent = client.search_runs(experiments, _OURS, max_results=10)
    known = ", ".join(dict.fromkeys(run.data.tags[RUN_TAG] for run in recent))
    raise RegistryError(f"run {name!r}: MLflow has none of that name or id; the newest are {known or 'none of ours'}")


def _read(client: MlflowClient, run: Run) -> ComparedRun:
    """Headline figures are those that have a paired difference; their first and last points are before and after."""
    logged = run.data.metrics
    curves: dict[str, list[tuple[int, float]]] = {}
    figures: dict[str, Figure] = {}
    for name in sorted(item.removesuffix(_DIFFERENCE) for item in logged if item.endswith(_DIFFERENCE)):
        points = sorted((item.step, item.value) for item in client.get_metric_history(run.info.run_id, name))
        if points:
            low, high = (logged.get(f"{name}{_DIFFERENCE}_{bound}") for bound in ("low", "high"))
            curves[name] = points
            figures[name] = Figure(points[0][1], points[-1][1], low, high)
    settings = dict(run.data.params)
    settings |= {"code": run.data.tags[CODE_TAG]} if CODE_TAG in run.data.tags else {}
    for given in run.inputs.dataset_inputs if run.inputs else ():
        settings[given.dataset.name] = given.dataset.digest
    name = run.data.tags.get(RUN_TAG, run.info.run_name or run.info.run_id)
    return ComparedRun(name, run.info.run_id, run.info.status, figures, curves, settings)
