"""The policy that is evaluated, whatever it is named by."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from components.ingest.base_model import ALLOWED, TINY_WEIGHTS, check_local_model
from components.ingest.settings import REGISTRY, TINY, IngestSettings
from components.shared.files import sha256_file
from components.shared.schemas import ArtifactRef
from components.shared.store import content_digest, open_store
from components.shared.tracking import resolve_champion
from pipelines.asking import find_policy
from pipelines.settings import SettingsError
from pipelines.validation.registry_model import registry_model


@dataclass(frozen=True)
class Policy:
    """A policy's folder, the digest of its content, and what it is in words."""

    folder: Path
    digest: str
    words: str


def resolve_policy(given: str, tracking_uri: str) -> Policy:
    """The policy that `--policy` names.

    A model's folder, `tiny`, a run's folder (its trained policy), a reference file (.json) as steps write them, or
    `models:/NAME@ALIAS` in the registry at `tracking_uri`. Raises SettingsError for anything else.
    """
    if given.startswith(REGISTRY):
        return _registered(given, tracking_uri)
    path = TINY_WEIGHTS if given == TINY and not Path(TINY).is_dir() else Path(given)
    if path.suffix == ".json" and path.is_file():
        return _of_reference(path)
    if not path.is_dir():
        raise SettingsError(
            f"--policy {given}: is no model's folder, run's folder, reference file (.json) or models:/NAME@ALIAS; download "
            "a model from the hub first"
        )
    found = find_policy(path)
    if found.folder == path:
        check_local_model(IngestSettings(model=str(path)))
    return Policy(found.folder, _digest(found.folder), found.words)


def _registered(given: str, tracking_uri: str) -> Policy:
    name = registry_model(given)
    if name is None or name["model"]:
        raise SettingsError(f"--policy {given}: of the registry it is models:/NAME@ALIAS, without `else`")
    champion = resolve_champion(tracking_uri, name["name"], name["alias"])
    if champion is None:
        missing = "points to nothing" if tracking_uri else "cannot be looked up: give --tracking-uri"
        raise SettingsError(f"--policy {given}: the alias {missing}")
    return _stored(champion.policy, f"{name['name']} version {champion.version}")


def _of_reference(path: Path) -> Policy:
    try:
        ref = ArtifactRef.model_validate(json.loads(path.read_text()))
    except (ValueError, ValidationError) as error:
        raise SettingsError(f"--policy {path}: is no reference to an artifact ({error})") from None
    if ref.kind != "policy":
        raise SettingsError(f"--policy {path}: refers to a {ref.kind}, not to a policy")
    return _stored(ref, f"the policy {ref.digest[:12]}")


def _stored(ref: ArtifactRef, words: str) -> Policy:
    folder = open_store(ref.uri.removesuffix(f"/{ref.kind}/{ref.digest}")).get(ref)
    return Policy(folder, _digest(folder), words)


def _digest(folder: Path) -> str:
    """That of the artifact that ingest would make of the folder: what else lies there is no part of the policy."""
    names = sorted({path for pattern in ALLOWED for path in folder.glob(pattern) if path.name != "manifest.json"})
    return content_digest(
        {path.name: {"sha256": sha256_file(path), "size": path.stat().st_size} for path in names if path.is_file()}
    )
