"""Where a TrainJob's nodes run and what each asks for, as Kubernetes writes it; and the pod that launches it."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from components.shared.schemas import Record

# what the launching pod learns of itself, by Kubernetes' downward API
FIELD_PATHS = {
    "DEEPVIDEO_POD_NAME": "metadata.name",
    "DEEPVIDEO_POD_UID": "metadata.uid",
    "DEEPVIDEO_POD_NAMESPACE": "metadata.namespace",
    "DEEPVIDEO_POD_SERVICE_ACCOUNT": "spec.serviceAccountName",
}


class TrainJobError(RuntimeError):
    """A TrainJob cannot be made or failed; the message names it, the failing node's last lines, or the remedy."""


class Nodes(Record):
    """The nodes of a TrainJob, all alike."""

    count: int
    runtime: str  # name of the ClusterTrainingRuntime
    image: str
    cpu: str
    memory: str
    gpu_count: int
    gpu_type: str
    node_selector: dict[str, str]
    tolerations: tuple[dict[str, Any], ...]
    shared_memory: str  # empty: /dev/shm is what the node gives
    scratch: str
    timeout: int  # seconds that the job may run
    queue: str  # of Kueue; empty: none
    labels: dict[str, str]
    image_pull_secrets: tuple[str, ...]
    run_as_user: int
    store_secret: str
    store_secret_keys: tuple[str, ...]  # variables that are taken from the secret, if it has them
    store_config: str
    store_config_keys: tuple[str, ...]


def nodes_of(compiled: str, gpu_tolerations: list[dict[str, Any]], **set_by_run: Any) -> Nodes | None:
    """The nodes that are compiled in as JSON, with what the run sets of them; None (empty JSON): no TrainJob.

    `gpu_tolerations` come on top of those compiled in; an empty value of `set_by_run` sets nothing.
    """
    if not compiled:
        return None
    nodes = Nodes.model_validate_json(compiled)
    given = {name: value for name, value in set_by_run.items() if value}
    return nodes.model_copy(update={**given, "tolerations": (*nodes.tolerations, *gpu_tolerations)})


class Launcher(NamedTuple):
    """The pod that this process runs in: it owns the TrainJob, which Kubernetes deletes with it."""

    name: str
    uid: str
    namespace: str
    service_account: str

    @classmethod
    def of_this_pod(cls) -> Launcher:
        """Raises TrainJobError outside of a pod of the compiled pipeline."""
        if missing := [name for name in FIELD_PATHS if not os.environ.get(name)]:
            raise TrainJobError(
                f"{', '.join(missing)}: not set: training on several nodes is started from a pod of the compiled pipeline"
                " alone; set training_pods.num_nodes to 1 elsewhere"
            )
        return cls(*(os.environ[name] for name in FIELD_PATHS))

    @property
    def owner_reference(self) -> dict[str, str]:
        """Not blocking the pod's deletion: that would take further rights."""
        return {"apiVersion": "v1", "kind": "Pod", "name": self.name, "uid": self.uid}
