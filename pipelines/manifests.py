"""The compiled pipeline as KFP's Kubernetes-native resources, for GitOps: Pipeline and PipelineVersion, named by content."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from google.protobuf import json_format
from kfp.compiler.compiler_utils import KubernetesManifestOptions
from kfp.compiler.pipeline_spec_builder import write_pipeline_spec_to_file
from kfp.pipeline_spec import pipeline_spec_pb2

from components.shared.files import sha256_bytes
from pipelines.dag import NAME

_DIGITS = 12  # of the content's digest in a name


def version_name(preset: str, compiled: Path) -> str:
    """The name of the version that a compiled pipeline is: equal content has equal names."""
    documents = list(yaml.safe_load_all(compiled.read_text()))
    return f"{preset}-{sha256_bytes(json.dumps(documents, sort_keys=True).encode())[:_DIGITS]}"


def write_manifests(compiled: Path, output: Path, version: str, namespace: str = "") -> Path:
    """Write the manifests of the IR YAML at `compiled` to `output`, by KFP's own writer; `version` names the version."""
    spec, *platform = yaml.safe_load_all(compiled.read_text())
    pipeline = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    options = KubernetesManifestOptions(
        pipeline_name=NAME,
        pipeline_display_name=pipeline.pipeline_info.display_name,
        pipeline_version_name=version,
        pipeline_version_display_name=version,
        namespace=namespace or None,
        include_pipeline_manifest=True,
    )
    pods = json_format.ParseDict(platform[0] if platform else {}, pipeline_spec_pb2.PlatformSpec())
    output.parent.mkdir(parents=True, exist_ok=True)
    write_pipeline_spec_to_file(
        pipeline_spec=pipeline,
        pipeline_description=pipeline.pipeline_info.description,
        platform_spec=pods,
        package_path=str(output),
        kubernetes_manifest_options=options,
        kubernetes_manifest_format=True,
    )
    return output
