"""Say equal parts of a compiled pipeline once: KFP repeats a nested pipeline's whole content at every use of it.

Fifty unrolled rounds are then as large as one round and fifty tasks, far below what Argo keeps in a workflow object.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from kfp.compiler.pipeline_spec_builder import extract_comments_from_pipeline_spec


def share_equal_parts(path: Path) -> None:
    """Rewrite the IR YAML at `path` so that equal executors, with equal pods, and equal components stand in it once."""
    spec, *platform = yaml.safe_load_all(path.read_text())
    executors = spec["deploymentSpec"]["executors"]
    pods = [part["deploymentSpec"]["executors"] for item in platform for part in item["platforms"].values()]
    kept = _unique({name: [part, *(pod.get(name) for pod in pods)] for name, part in executors.items()})
    for component in spec["components"].values():
        if "executorLabel" in component:
            component["executorLabel"] = kept[component["executorLabel"]]
    for parts in (executors, *pods):
        _keep(parts, kept)
    while len(set((kept := _unique(spec["components"])).values())) < len(kept):  # rounds are equal once their tasks are
        for part in [spec["root"], *spec["components"].values()]:
            for task in part.get("dag", {}).get("tasks", {}).values():
                task["componentRef"]["name"] = kept[task["componentRef"]["name"]]
        _keep(spec["components"], kept)
    path.write_text(_header(spec) + yaml.safe_dump_all([spec, *platform], sort_keys=True, width=120))


def _header(spec: dict[str, Any]) -> str:
    """KFP's comment at the top, which prints defaults that are mappings in the order of their keys: here they are sorted."""
    ordered = json.loads(json.dumps(spec, sort_keys=True))
    return str(extract_comments_from_pipeline_spec(ordered, spec["pipelineInfo"].get("description", "")))


def _unique(parts: dict[str, Any]) -> dict[str, str]:
    """Each part's name -> the name of the first part that is equal to it."""
    first: dict[str, str] = {}
    return {name: first.setdefault(json.dumps(part, sort_keys=True), name) for name, part in parts.items()}


def _keep(parts: dict[str, Any], kept: dict[str, str]) -> None:
    for name in set(kept) - set(kept.values()):
        parts.pop(name, None)
