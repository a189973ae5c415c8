"""Writes candidates into MLflow's model registry and moves the champion's alias."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from components.shared.schemas import ArtifactRef
from components.shared.tracking.client import quoted
from components.shared.tracking.registry import POLICY_TAG, alias_version
from components.shared.tracking.runs import RUN_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

CANDIDATE_TAG = "deepvideo.candidate"  # the policy's content digest
_POINTER = (
    "policy"  # folder of the run's artifacts with the reference, where the registry cannot name the policy itself
)


def register(
    client: MlflowClient,
    registered_model: str,
    candidate: ArtifactRef,
    run_name: str,
    lineage: Mapping[str, str],
    run_id: str,
) -> str:
    """The version number of the candidate of this run: the one that an earlier try registered, else a new one.

    A version is a pointer: its source is the policy's URI in the artifact store, its tags hold the reference and the
    lineage. A tracking server refuses a source in a folder (the policy might be anywhere): there the source is a file
    in the run's artifacts that holds the reference.
    """
    _ensure_model(client, registered_model)
    wanted = {CANDIDATE_TAG: candidate.digest, RUN_TAG: run_name}
    conditions = [f"name={quoted(registered_model)}", *(f"tag.`{tag}`={quoted(text)}" for tag, text in wanted.items())]
    if found := client.search_model_versions(" and ".join(conditions)):
        return str(min(int(version.version) for version in found))
    source = candidate.uri
    if source.startswith("file:") and client.tracking_uri.startswith("http"):
        client.log_text(run_id, candidate.model_dump_json(indent=1), f"{_POINTER}/{_POINTER}.json")
        source = f"runs:/{run_id}/{_POINTER}"
    tags = {**lineage, **wanted, POLICY_TAG: candidate.model_dump_json()}
    version = client.create_model_version(registered_model, source, run_id or None, tags, await_creation_for=0)
    return str(version.version)


def _ensure_model(client: MlflowClient, registered_model: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(registered_model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def move_alias(client: MlflowClient, registered_model: str, alias: str, expected: str, version: str) -> str:
    """Point `alias` to `version` if it still points to `expected` (empty: to nothing). Returns where it points then.

    Anything but `version` means that another run promoted in the meantime. MLflow has no compare-and-set for aliases:
    this reads, sets and reads again. A change before the first read is noticed, and nothing is written. Of two runs
    that set within the same milliseconds the later stays, and the earlier learns of it unless it reads in between. A
    version of our own that is there already, set before a kill, counts as moved.
    """
    current = alias_version(client, registered_model, alias) or ""
    if current == expected and current != version:
        client.set_registered_model_alias(registered_model, alias, version)
        current = alias_version(client, registered_model, alias) or ""
    return current
