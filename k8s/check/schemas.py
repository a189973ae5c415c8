"""Objects against their schemas, unknown fields refused: Kubernetes' own, and those of the custom resources.

Kubernetes' schemas come with the package kubernetes-validate, Trainer's with kubeflow-trainer-api. Kueue publishes none
as a package: `kueue.json` describes the fields that are used here. CRDs exported from a cluster are checked as well.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from kubeflow_trainer_api.models import TrainerV1alpha1ClusterTrainingRuntime, TrainerV1alpha1TrainJob

from k8s.check.manifests import Rendered, where

KUBERNETES = "1.33"
_NOT_NAMESPACED = {"Namespace", "PriorityClass", "ClusterRole", "ClusterRoleBinding"} | {
    "ClusterTrainingRuntime",
    "ClusterQueue",
    "ResourceFlavor",
    "WorkloadPriorityClass",
}
Schemas = Mapping[tuple[str, str], Any]  # (apiVersion, kind) -> JSON schema


def custom_schemas() -> Schemas:
    """The schemas of the custom resources that the manifests use."""
    models = {
        "TrainJob": TrainerV1alpha1TrainJob,
        "ClusterTrainingRuntime": TrainerV1alpha1ClusterTrainingRuntime,
    }
    trainer = {
        ("trainer.kubeflow.org/v1alpha1", kind): _strict(_with_plain_values(model.model_json_schema()))
        for kind, model in models.items()
    }
    kueue = json.loads((Path(__file__).parent / "kueue.json").read_text())
    kinds = {
        ("kueue.x-k8s.io/v1beta2", kind): _strict({**schema, "$defs": kueue["$defs"]})
        for kind, schema in kueue["kinds"].items()
    }
    return trainer | kinds


def exported_schemas(folder: Path) -> Schemas:
    """The schemas of the CustomResourceDefinitions in a folder's YAML files (`kubectl get crd NAME -o yaml`)."""
    found: dict[tuple[str, str], Any] = {}
    for path in sorted(folder.glob("*.y*ml")):
        for item in yaml.safe_load_all(path.read_text()):
            for crd in (item or {}).get("items", [item]):
                if crd and crd["kind"] == "CustomResourceDefinition":
                    for version in crd["spec"]["versions"]:
                        key = (f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"])
                        found[key] = _strict(version["schema"]["openAPIV3Schema"])
    return found


def _with_plain_values(schema: Any) -> Any:
    """A generated model's schema, where a quantity or a port is an object, with the values that stand in JSON for them."""
    for name, part in schema["$defs"].items():
        if name.endswith(("ResourceQuantity", "IntOrString")):
            part.clear()
            part["type"] = ["string", "number"]
    return schema


def _strict(schema: Any) -> Any:
    """The schema with unknown fields refused wherever it names its fields."""
    strict = copy.deepcopy(schema)
    for part in _parts(strict):
        if "properties" in part and not part.get("x-kubernetes-preserve-unknown-fields"):
            part.setdefault("additionalProperties", False)
    root = strict.get("properties", {})
    if root.get("metadata", {}) == {"type": "object"}:  # a CRD leaves metadata to the API server
        root["metadata"] = {}
    return strict


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for below in value.values():
            yield from _parts(below)
    elif isinstance(value, list):
        for below in value:
            yield from _parts(below)


def check_schemas(rendered: Rendered, *custom: Schemas) -> Iterator[str]:
    """What in an overlay does not fit its schema."""
    for item in rendered.objects:
        key = (item["apiVersion"], item["kind"])
        known = [schemas[key] for schemas in custom if key in schemas]
        for schema in known:
            for error in jsonschema.Draft202012Validator(schema).iter_errors(item):
                yield f"{where(item)}: {_told(error)}"
        if not known:
            try:
                kubernetes_validate.validate(item, KUBERNETES, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{where(item)}: {_told(error)}"
            except kubernetes_validate.SchemaNotFoundError:
                yield f"{where(item)}: there is no schema for {key[1]} of {key[0]}"
        if item["kind"] in _NOT_NAMESPACED and "namespace" in item["metadata"]:
            yield f"{where(item)}: is not namespaced, and has a namespace"


def _told(error: jsonschema.ValidationError) -> str:
    """Where and what; of alternatives the one that came furthest."""
    while error.context:
        error = max(error.context, key=lambda below: len(below.absolute_path))
    return f"{'.'.join(map(str, error.absolute_path)) or 'object'}: {error.message[:300]}"
