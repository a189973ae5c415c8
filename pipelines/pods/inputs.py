"""What of the pods can be set for each run, of what Kubeflow Pipelines takes as inputs: the rest is compiled in.

Values are texts even where they mean a number: KFP 2.17's driver reads a resource's amount from a string only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.pods.settings import pairs, toleration

if TYPE_CHECKING:
    from pipelines.settings import RunSettings

# UI name -> setting
POD_INPUTS = {
    "cluster_generation_node_selector": "generation_pods.node_selector",
    "cluster_gpu_tolerations": "cluster.gpu_tolerations",
    "cluster_gpu_type": "cluster.gpu_type",
    "cluster_store_secret": "cluster.store_secret",
    "cluster_training_memory": "training_pods.memory",
    "cluster_training_node_selector": "training_pods.node_selector",
}
GPU_INPUTS = {"cluster_gpu_tolerations", "cluster_gpu_type"}


def pod_inputs(settings: RunSettings) -> dict[str, Any]:
    """The inputs' default values by name, as Kubernetes writes them; without those for GPUs where no pod has one."""
    has_gpus = any(pods.gpu_count for pods in (settings.light_pods, settings.generation_pods, settings.training_pods))
    names = [name for name in POD_INPUTS if has_gpus or name not in GPU_INPUTS]
    return {name: _default(settings, POD_INPUTS[name]) for name in names}


def _default(settings: RunSettings, path: str) -> Any:
    section, field = path.split(".")
    value = getattr(getattr(settings, section), field)
    if field == "node_selector":
        return pairs(value)
    return [toleration(taint) for taint in value] if field == "gpu_tolerations" else value
