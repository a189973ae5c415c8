"""The TrainJob of a round, for Kubeflow Trainer 2.3 (trainer.kubeflow.org/v1alpha1)."""

from __future__ import annotations

from typing import Any

from components.shared.files import sha256_bytes
from components.training.spec import Work
from components.training.trainjob.nodes import Launcher, Nodes

GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
NODE = "node"  # the runtime's replicated job, and its container
_PART_OF = {"app.kubernetes.io/part-of": "deepvideo-r1", "app.kubernetes.io/component": "training"}


def name_of(work: Work) -> str:
    """The same for every attempt of a run at this work; short, for pods' names are made of it."""
    return f"training-r{work.context.round}-{sha256_bytes(f'{work.context.run_name}/{work.key}'.encode())[:12]}"


def train_job(work: Work, nodes: Nodes, launcher: Launcher) -> dict[str, Any]:
    """The object to create. What the run does not set is the ClusterTrainingRuntime's."""
    queue = {"kueue.x-k8s.io/queue-name": nodes.queue} if nodes.queue else {}
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainJob",
        "metadata": {
            "name": name_of(work),
            "labels": {**nodes.labels, **_PART_OF, **queue},
            "annotations": {"deepvideo-r1/run": work.context.run_name, "deepvideo-r1/work": work.key},
            "ownerReferences": [launcher.owner_reference],
        },
        "spec": {
            "activeDeadlineSeconds": nodes.timeout,
            "runtimeRef": {"apiGroup": GROUP, "kind": "ClusterTrainingRuntime", "name": nodes.runtime},
            "trainer": {
                "image": nodes.image,
                "command": ["python", "-m", "components.training.trainjob.node"],
                "args": [work.context.store, work.key],
                "numNodes": nodes.count,
                "numProcPerNode": work.settings.nproc_per_node,
                "resourcesPerNode": _resources(nodes),
                "env": _environment(nodes),
            },
            "runtimePatches": [
                {"manager": "deepvideo-r1/pipeline", "trainingRuntimeSpec": _runtime_patch(nodes, launcher)}
            ],
        },
    }


def _resources(nodes: Nodes) -> dict[str, dict[str, str]]:
    gpus = {nodes.gpu_type: str(nodes.gpu_count)} if nodes.gpu_count else {}
    return {"requests": {"cpu": nodes.cpu, "memory": nodes.memory}, "limits": {"memory": nodes.memory, **gpus}}


def _environment(nodes: Nodes) -> list[dict[str, Any]]:
    """The artifact store's address and credentials, by reference."""
    return [
        {"name": name, "valueFrom": {source: {"name": where, "key": name, "optional": True}}}
        for source, where, names in (
            ("secretKeyRef", nodes.store_secret, nodes.store_secret_keys),
            ("configMapKeyRef", nodes.store_config, nodes.store_config_keys),
        )
        for name in names
    ]


def _runtime_patch(nodes: Nodes, launcher: Launcher) -> dict[str, Any]:
    """Of the pods what TrainJobs have no fields for: nodes, volumes, user and account. (Environment is not allowed here.)"""
    volumes = {"scratch": ("/scratch", {"sizeLimit": nodes.scratch})}
    if nodes.shared_memory:
        volumes["shm"] = ("/dev/shm", {"medium": "Memory", "sizeLimit": nodes.shared_memory})
    user = nodes.run_as_user
    pod = {
        "serviceAccountName": launcher.service_account,  # for a cloud's own identity; it gets no token
        "nodeSelector": nodes.node_selector,
        "tolerations": list(nodes.tolerations),
        "imagePullSecrets": [{"name": name} for name in nodes.image_pull_secrets],
        "securityContext": {"runAsUser": user, "runAsGroup": user, "fsGroup": user},
        "volumes": [{"name": name, "emptyDir": source} for name, (_, source) in volumes.items()],
        "containers": [
            {
                "name": NODE,
                "volumeMounts": [{"name": name, "mountPath": path} for name, (path, _) in volumes.items()],
            }
        ],
    }
    template = {"metadata": {"labels": {**nodes.labels, **_PART_OF}}, "spec": pod}
    job = {"name": NODE, "template": {"spec": {"template": template}}}
    return {"template": {"spec": {"replicatedJobs": [job]}}}
