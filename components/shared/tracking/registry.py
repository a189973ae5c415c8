"""The champion in MLflow's model registry: which version an alias points to, and the policy behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.shared.schemas import ArtifactRef, Record
from components.shared.tracking.client import open_client, quoted, with_retries
from components.shared.tracking.runs import RUN_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

POLICY_TAG = "deepvideo.policy"  # of a model version: the policy's ArtifactRef as JSON
CHALLENGED_TAG = "deepvideo.challenged"  # of a model version: the version that was champion when its run began


class RegistryError(RuntimeError):
    """The registry cannot be read or written; the message names it and the remedy."""


class Champion(Record):
    """A version in the registry and its policy in the artifact store."""

    version: str
    policy: ArtifactRef


def resolve_champion(tracking_uri: str, registered_model: str, alias: str = "champion") -> Champion | None:
    """The version that `alias` points to now; None if there is none, or no registry (`tracking_uri` empty).

    Raises RegistryError if the registry cannot be read, or if the version was not registered by this project.
    """
    if not tracking_uri:
        return None

    def find() -> Champion | None:
        client = open_client(tracking_uri)
        version = alias_version(client, registered_model, alias)
        if version is None:
            return None
        policy = client.get_model_version(registered_model, version).tags.get(POLICY_TAG)
        if policy is None:
            raise RegistryError(
                f"{registered_model} version {version} (alias {alias!r}) has no tag {POLICY_TAG}: it was not "
                f"registered by this project; remove the alias or set promotion.registered_model to another name"
            )
        return Champion(version=version, policy=ArtifactRef.model_validate_json(policy))

    try:
        return with_retries(find)
    except RegistryError:
        raise
    except Exception as error:
        raise RegistryError(
            f"MLflow's registry at {tracking_uri} cannot be read: {error}; start it, or run without a tracking URI"
        ) from error


class RegisteredVersion(Record):
    """A version in the registry; `challenged` was champion when its run began, empty: none was, or it is not known."""

    version: str
    run_name: str
    policy: ArtifactRef
    challenged: str = ""


def registered_versions(client: MlflowClient, registered_model: str) -> list[RegisteredVersion]:
    """Every version of a model that this project registered, the newest first."""
    found: list[RegisteredVersion] = []
    token = ""
    while True:
        page = client.search_model_versions(f"name={quoted(registered_model)}", page_token=token or None)
        for item in page:
            if policy := item.tags.get(POLICY_TAG):
                found.append(
                    RegisteredVersion(
                        version=str(item.version),
                        run_name=item.tags.get(RUN_TAG, ""),
                        policy=ArtifactRef.model_validate_json(policy),
                        challenged=item.tags.get(CHALLENGED_TAG, ""),
                    )
                )
        token = page.token or ""
        if not token:
            return sorted(found, key=lambda item: -int(item.version))


class Alias(Record):
    """An alias in the registry and the policy in the artifact store that it points to."""

    registered_model: str
    alias: str
    version: str
    policy: ArtifactRef


def aliased_policies(tracking_uri: str) -> list[Alias]:
    """Every alias of every registered model whose version this project registered.

    Raises RegistryError if the registry cannot be read.
    """

    def find() -> list[Alias]:
        client = open_client(tracking_uri)
        found: list[Alias] = []
        token = ""
        while True:
            page = client.search_registered_models(page_token=token or None)
            for model in page:
                for alias, version in client.get_registered_model(model.name).aliases.items():
                    policy = client.get_model_version(model.name, str(version)).tags.get(POLICY_TAG)
                    if policy is not None:
                        ref = ArtifactRef.model_validate_json(policy)
                        found.append(Alias(registered_model=model.name, alias=alias, version=str(version), policy=ref))
            token = page.token or ""
            if not token:
                return found

    try:
        return with_retries(find)
    except Exception as error:
        raise RegistryError(
            f"MLflow's registry at {tracking_uri} cannot be read: {error}; start it, or correct --tracking-uri"
        ) from error


def alias_version(client: MlflowClient, registered_model: str, alias: str) -> str | None:
    """The version number that `alias` points to, None if the model or the alias does not exist."""
    from mlflow.exceptions import MlflowException

    try:
        version = client.get_registered_model(registered_model).aliases.get(alias)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return str(version) if version is not None else None
