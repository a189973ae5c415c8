"""What a compiled pipeline still needs before it can run on a cluster."""

from __future__ import annotations

import re
from collections.abc import Collection

from components.ingest.settings import MOVING_SHAPES, REGISTRY, TINY, IngestSettings
from components.shared.images import LOCAL_REGISTRY, registry
from pipelines.inputs import INPUTS, STORE, TRACKING
from pipelines.settings import RunSettings, SettingsError

_S3 = "s3://"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_DATA = ("annotations", "videos", "model")
_NO_PATHS = "is a path that pods do not have; give s3://..."


def still_to_set(settings: RunSettings, given: Collection[str] = ()) -> list[str]:
    """What a pod cannot use as it is, a line each: what it is, why, and the remedy. `given` names inputs that have a value."""
    ui_names = {path: name for name, path in INPUTS.items()}
    lines = []
    if registry() == LOCAL_REGISTRY:
        lines.append(
            f"images: named {LOCAL_REGISTRY}/..., which no cluster can pull; build and push them, and compile again with"
            " DEEPVIDEO_REGISTRY=your.registry/path"
        )
    if STORE not in given:
        lines.append(f"input {STORE}: is empty; give s3://bucket/prefix when you start a run")
    for field, own in zip(_DATA, (MOVING_SHAPES, "", TINY), strict=True):
        value, name = getattr(settings.ingest, field), ui_names[f"ingest.{field}"]
        if own and value == own:
            lines.append(f"input {name}: is {own!r}, the project's own for trying out; give yours, as s3://...")
        elif why := _why_useless(settings.ingest, field):
            lines.append(f"input {name}: {why}")
    if TRACKING not in given:
        lines.append(f"input {TRACKING}: is empty; without MLflow's address nothing is tracked and nothing is promoted")
    return lines


def refuse_useless(settings: RunSettings, store: str) -> None:
    """Raise SettingsError, a line for each, for what no pod can use: a run with it fails for certain."""
    found = {f"ingest.{field}": _why_useless(settings.ingest, field) for field in _DATA}
    found["--store"] = "" if store.startswith(_S3) else f"{store} {_NO_PATHS}"
    if lines := [f"{name}: {why}" for name, why in found.items() if why]:
        raise SettingsError("\n".join(lines))


def _why_useless(ingest: IngestSettings, field: str) -> str:
    """Why no pod can use what this setting names, and the remedy; empty if one may."""
    value = getattr(ingest, field)
    if not value or value.startswith(_S3) or (field, value) == ("annotations", MOVING_SHAPES):
        return ""
    if field != "model":
        return f"{value} {_NO_PATHS}"
    if value == TINY or value.startswith(REGISTRY) or (ingest.model_revision and _HUB_ID.fullmatch(value)):
        return ""
    by_hub = ", or the commit of a hub id as ingest.model_revision" if _HUB_ID.fullmatch(value) else ""
    return f"{value} {_NO_PATHS}{by_hub}"
