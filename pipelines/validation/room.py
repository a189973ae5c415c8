"""Whether the cluster has room for a run's pods: GPUs of a node against those of a pod, and their memory."""

from __future__ import annotations

from typing import Any

from components.shared.schemas import Record
from pipelines.pods.settings import ClusterSettings, PodSettings, TrainingPodSettings, pairs, toleration
from pipelines.settings import RunSettings, SettingsError
from pipelines.validation.estimate import Need, needs
from pipelines.validation.model_size import ModelSize
from pipelines.validation.nodes import Unknown, list_nodes

_STEPS = {"generation_pods": ("difficulty", "augmentation", "rollout"), "training_pods": ("training",)}
_SMALLER = {
    "generation_pods": "raise generation.tensor_parallel_size with generation_pods.gpu_count, or lower"
    " generation.max_model_len",
    "training_pods": "raise training.zero_stage or the GPUs, set training.gradient_checkpointing,"
    " training.offload_optimizer or training.lora_r, or lower training.micro_batch_tokens",
}


class PodPlan(Record):
    """The settings of pods as they are compiled in, and what this run sets of them (empty: nothing)."""

    cluster: ClusterSettings
    generation_pods: PodSettings
    training_pods: TrainingPodSettings

    @classmethod
    def of(cls, settings: RunSettings) -> PodPlan:
        """The pods of these settings."""
        return cls(**{name: getattr(settings, name) for name in cls.model_fields})


def check_room(plan: PodPlan, model: ModelSize, settings: RunSettings, run_inputs: dict[str, Any]) -> list[str]:
    """Lines with the expected GPU hours and memory of each step. `run_inputs` are the run's values of `POD_INPUTS`.

    Raises SettingsError if a pod wants more GPUs than the largest node has, or a step more memory than a GPU has.
    """
    expected = needs(model, settings, plan.cluster, plan.training_pods.num_nodes)
    lines = [_line(need, plan) for need in expected]
    for section, steps in _STEPS.items():
        pods: PodSettings = getattr(plan, section)
        if not pods.gpu_count:
            continue
        gpus, memory, said = _largest(plan.cluster, section, pods, run_inputs)
        if said:
            lines.append(f"{section}: {said}")
        if gpus is not None and pods.gpu_count > gpus:
            raise SettingsError(
                f"{section}.gpu_count: is {pods.gpu_count}, but the largest node that its pods may run on has {gpus}:"
                " lower it, correct node_selector and tolerations, or, for a pool that grows from no nodes, say"
                " cluster.gpus_per_node"
            )
        for need in expected:
            if need.step in steps and memory and need.memory > memory:
                raise SettingsError(
                    f"{need.step}: needs about {need.memory:.0f} GiB of each GPU, which has {memory:.0f}:"
                    f" {_SMALLER[section]}; or take larger GPUs"
                )
    return lines


def _line(need: Need, plan: PodPlan) -> str:
    section = next(name for name, steps in _STEPS.items() if need.step in steps)
    gpus = getattr(plan, section).gpu_count * (plan.training_pods.num_nodes if section == "training_pods" else 1)
    wall = f", {need.gpu_hours / gpus:.1f} h on {gpus} GPUs" if gpus else ""
    return f"{need.step}: about {need.memory:.1f} GiB of each GPU, {need.gpu_hours:.1f} GPU hours{wall}"


def _largest(
    cluster: ClusterSettings, section: str, pods: PodSettings, run_inputs: dict[str, Any]
) -> tuple[int | None, float, str]:
    """(GPUs of the pool's largest node, GiB of one GPU, what cannot be told): settings first, else the node list."""
    gpus: int | None = cluster.gpus_per_node or None
    memory = float(cluster.gpu_memory)
    if gpus and memory:
        return gpus, memory, ""
    selector = run_inputs.get(f"cluster_{section.removesuffix('_pods')}_node_selector") or pairs(pods.node_selector)
    taints = run_inputs.get("cluster_gpu_tolerations") or [toleration(item) for item in cluster.gpu_tolerations]
    tolerated = [*taints, *(toleration(item) for item in pods.tolerations)]
    try:
        nodes = list_nodes(run_inputs.get("cluster_gpu_type") or cluster.gpu_type, selector, tolerated)
    except Unknown as error:
        return (
            gpus,
            memory,
            f"the size of its pool is not checked: {error}; say cluster.gpus_per_node, cluster.gpu_memory",
        )
    if gpus is None:
        gpus = max((node.gpus for node in nodes), default=0)
    fitting = [node.gpu_memory for node in nodes if node.gpus >= pods.gpu_count]
    return gpus, memory or max(fitting, default=0.0), ""
