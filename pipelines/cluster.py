"""What a compiled pipeline still needs before it can run on a cluster."""

from __future__ import annotations

from collections.abc import Collection

from components.ingest.settings import MOVING_SHAPES, REGISTRY, TINY
from components.shared.images import LOCAL_REGISTRY, registry
from pipelines.inputs import INPUTS, STORE, TRACKING
from pipelines.settings import RunSettings

_REMOTE = ("s3://", REGISTRY)


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
    for field, own in (("annotations", MOVING_SHAPES), ("videos", ""), ("model", TINY)):
        value, name = getattr(settings.ingest, field), ui_names[f"ingest.{field}"]
        if own and value == own:
            lines.append(f"input {name}: is {own!r}, the project's own for trying out; give yours, as s3://...")
        elif value and not value.startswith(_REMOTE) and not (field == "model" and settings.ingest.model_revision):
            lines.append(f"input {name}: {value} is a path that pods do not have; give s3://...")
    if TRACKING not in given:
        lines.append(f"input {TRACKING}: is empty; without MLflow's address nothing is tracked and nothing is promoted")
    return lines
