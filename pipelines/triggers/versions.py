"""Pipeline versions: one for each compiled content, named after it, uploaded once."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.dag import NAME, compile_pipeline
from pipelines.manifests import version_name
from pipelines.settings import RunSettings
from pipelines.triggers.client import Cluster


@dataclass(frozen=True)
class Version:
    """A pipeline version in KFP, and its compiled spec."""

    pipeline_id: str
    version_id: str
    name: str
    spec: dict[str, Any]
    uploaded: bool  # now, else it was there


def upload(cluster: Cluster, preset: str, settings: RunSettings) -> Version:
    """The version of these settings, compiled here and uploaded unless KFP has it. Raises ClusterError."""
    with tempfile.TemporaryDirectory() as folder:
        path = compile_pipeline(settings, Path(folder) / "pipeline.yaml")
        name, spec = version_name(preset, path), next(yaml.safe_load_all(path.read_text()))
        with cluster.asking("finding the pipeline"):
            pipeline_id = _pipeline_id(cluster)
            there = cluster.client.list_pipeline_versions(pipeline_id, page_size=1, filter=named(name))
        if there.pipeline_versions:
            return Version(pipeline_id, there.pipeline_versions[0].pipeline_version_id, name, spec, uploaded=False)
        with cluster.asking("uploading the pipeline"):
            made = cluster.client.upload_pipeline_version(
                str(path), pipeline_version_name=name, pipeline_id=pipeline_id, description=f"Preset {preset}"
            )
        return Version(pipeline_id, made.pipeline_version_id, name, spec, uploaded=True)


def _pipeline_id(cluster: Cluster) -> str:
    """The pipeline's id; it is made, without a version, if it is not there."""
    found = cluster.client.list_pipelines(page_size=1, filter=named(NAME), namespace=cluster.namespace)
    if found.pipelines:
        return str(found.pipelines[0].pipeline_id)
    made = cluster.client.pipelines.pipeline_service_create_pipeline(
        cluster.client.api_models.V2beta1Pipeline(name=NAME, display_name="DeepVideo-R1", namespace=cluster.namespace)
    )
    return str(made.pipeline_id)


def named(name: str) -> str:
    """A filter of KFP's lists for what has this name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "name", "string_value": name}]})
