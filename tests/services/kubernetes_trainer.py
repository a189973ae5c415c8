"""What a cluster with Kubeflow Trainer (2.3) refuses of a TrainJob: by Trainer's published schema, and by its webhook."""

from __future__ import annotations

import re
from typing import Any

import jsonschema

from k8s.check.schemas import custom_schemas

_SCHEMA = custom_schemas()[("trainer.kubeflow.org/v1alpha1", "TrainJob")]
_OF_TORCH = {"PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT"}


class Status(Exception):
    """An answer that is an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def check_train_job(job: dict[str, Any]) -> None:
    """Raises Status for what Kubernetes or Trainer's webhook refuses."""
    for error in jsonschema.Draft202012Validator(_SCHEMA).iter_errors(job):
        while error.context:  # of alternatives the one that came furthest
            error = max(error.context, key=lambda below: len(below.absolute_path))
        where = ".".join(map(str, error.absolute_path))
        raise Status(400, f"strict decoding error: {where}: {error.message}")
    # the CRD's own rule and the webhook's (pkg/webhooks, pkg/runtime/framework/plugins of Kubeflow Trainer 2.3)
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", job["metadata"]["name"]) or len(job["metadata"]["name"]) > 40:
        raise Status(422, "metadata.name must match RFC 1035 DNS label format, short enough for its pods' names")
    spec = job["spec"]
    if spec["runtimeRef"]["name"] != "deepvideo-torchrun":
        raise Status(422, f"ClusterTrainingRuntime {spec['runtimeRef']['name']!r} not found")
    if reserved := _OF_TORCH & {item["name"] for item in spec["trainer"]["env"]}:
        raise Status(422, f"must not have reserved envs, invalid envs configured: {reserved}")
    for patch in spec["runtimePatches"]:
        if not re.fullmatch(r"[a-z0-9.-]+/[\w.-]+", patch["manager"]):
            raise Status(422, f"manager: {patch['manager']!r} is no domain-prefixed path")
        for replicated in patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]:
            if replicated["name"] != "node":
                raise Status(422, "must not have replicated job that doesn't exist in the runtime job template")
            for container in replicated["template"]["spec"]["template"]["spec"]["containers"]:
                if container["name"] != "node" or container.get("env"):
                    raise Status(422, "must not have envs for the node container, nor one that doesn't exist")
