"""The champion's alias back to an earlier version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.promotion.registry import move_alias
from components.shared.store import MANIFEST, StoreError, open_store
from components.shared.tracking.client import open_client, with_retries
from components.shared.tracking.registry import RegisteredVersion, RegistryError, alias_version, registered_versions

if TYPE_CHECKING:
    from mlflow import MlflowClient


def roll_back(
    tracking_uri: str, registered_model: str, alias: str, to: str = ""
) -> tuple[RegisteredVersion, RegisteredVersion]:
    """Point `alias` to version `to`, else to the version that was champion before; returns (what it was, what it is).

    Raises RegistryError, naming the remedy, if there is no such version, if its policy is in the store no more, or if
    the alias moved meanwhile.
    """
    client, known = versions(tracking_uri, registered_model)
    current = with_retries(lambda: alias_version(client, registered_model, alias))
    if current is None:
        raise RegistryError(f"{registered_model} has no alias {alias!r}: nothing was promoted yet, or give --alias")
    if current not in known:
        raise RegistryError(
            f"{registered_model} version {current} was not registered by this project: move it in MLflow"
        )
    before = known[current]
    wanted = to or before.challenged
    if not wanted:
        raise RegistryError(
            f"{registered_model} version {current} does not say which version was {alias} before it; give --to VERSION: "
            f"{', '.join(number for number in known if number != current) or 'there is no other'}"
        )
    if wanted not in known:
        raise RegistryError(f"{registered_model} has no version {wanted} of ours; it has {', '.join(known)}")
    _check_policy(known[wanted], registered_model)
    holder = with_retries(lambda: move_alias(client, registered_model, alias, current, wanted))
    if holder != wanted:
        raise RegistryError(
            f"{registered_model}: {alias} moved to version {holder} meanwhile; look at it and try again"
        )
    return before, known[wanted]


def versions(tracking_uri: str, registered_model: str) -> tuple[MlflowClient, dict[str, RegisteredVersion]]:
    """The registry's client and the model's versions by number, the newest first. Raises RegistryError if it has none."""
    try:
        client = open_client(tracking_uri)
        found = with_retries(lambda: registered_versions(client, registered_model))
    except Exception as error:
        raise RegistryError(
            f"MLflow's registry at {tracking_uri} cannot be read: {error}; start it, or correct --tracking-uri"
        ) from error
    if not found:
        raise RegistryError(f"MLflow at {tracking_uri} has no version of {registered_model}; give --registered-model")
    return client, {item.version: item for item in found}


def _check_policy(version: RegisteredVersion, registered_model: str) -> None:
    """Refuse a version whose policy was deleted. A store that cannot be looked into from here is no objection."""
    policy = version.policy
    name = f"{policy.kind}/{policy.digest}"
    try:
        gone = open_store(policy.uri.removesuffix(f"/{name}")).read_object(f"{name}/{MANIFEST}") is None
    except (StoreError, OSError, ValueError):
        return
    if gone:
        raise RegistryError(
            f"{registered_model} version {version.version}: its policy {policy.uri} was deleted; choose another with --to"
        )
