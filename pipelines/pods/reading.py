"""The IR of a compiled pipeline, from what `deepvideo compile` wrote: IR YAML, or KFP's Kubernetes resources."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pipelines.settings import SettingsError

_PARTS = ("pipelineInfo", "root", "components", "deploymentSpec")  # of every IR


class IR(NamedTuple):
    """A pipeline's spec, and what its tasks ask Kubernetes for, by executor."""

    spec: dict[str, Any]
    pods: dict[str, Any]


def read_ir(path: Path) -> IR:
    """The IR in the file at `path`. Raises SettingsError if it is no compiled pipeline of this project."""
    from pipelines.dag import NAME

    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError):
        raise _refused(path, "is not valid YAML") from None
    versions = [item for item in documents if isinstance(item, dict) and item.get("kind") == "PipelineVersion"]
    if versions:  # KFP's Kubernetes resources
        version = versions[0].get("spec") or {}
        documents = [version.get("pipelineSpec"), *filter(None, [version.get("platformSpec")])]
    spec, *platforms = documents or [None]
    if not isinstance(spec, dict) or not all(part in spec for part in _PARTS):
        raise _refused(path, "is no compiled pipeline (neither KFP's IR nor a PipelineVersion)")
    if (name := spec["pipelineInfo"].get("name")) != NAME:
        raise _refused(path, f"is the pipeline {name!r}, not {NAME!r}")
    return IR(spec, platforms[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if platforms else {})


def _refused(path: Path, what: str) -> SettingsError:
    return SettingsError(f"{path}: {what}; `deepvideo compile --output FILE` writes one that can be shown")
