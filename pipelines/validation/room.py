"""Whether the cluster has room for a run's pods: GPUs of a node against those of a pod, and their memory."""

from __future__ import annotations

import math
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
    lines = [_line(need, plan, settings) for need in expected]
    for section, steps in _STEPS.items():
        pods: PodSettings = getattr(plan, section)
        if not pods.gpu_count:
            continue
        gpus, memory, all_gpus, said = _pool(plan.cluster, section, pods, run_inputs)
        if said:
            lines.append(f"{section}: {said}")
        lines += _turns(section, pods, all_gpus, settings)
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


def _line(need: Need, plan: PodPlan, settings: RunSettings) -> str:
    section = next(name for name, steps in _STEPS.items() if need.step in steps)
    pods = getattr(plan, section)
    count = plan.training_pods.num_nodes if section == "training_pods" else settings.pipeline.shards
    wall = ""
    if pods.gpu_count:
        share = 1 / count if section == "training_pods" else _largest_share(settings)
        wall = f", {need.gpu_hours / pods.gpu_count * share:.1f} h on {pods.gpu_count * count} GPUs"
    return f"{need.step}: about {need.memory:.1f} GiB of each GPU, {need.gpu_hours:.1f} GPU hours{wall}"


def _largest_share(settings: RunSettings) -> float:
    """The share of a round's prompts that the first shard has, which has no fewer chunks than any other."""
    chunks = math.ceil(settings.difficulty.prompts_per_round / settings.sampling.chunk_prompts)
    return math.ceil(chunks / settings.pipeline.shards) / chunks


def _turns(section: str, pods: PodSettings, all_gpus: int | None, settings: RunSettings) -> list[str]:
    """What there is to say of shards: more than there are GPUs for at once, or than a round has chunks."""
    pipeline = settings.pipeline
    lines: list[str] = []
    if section != "generation_pods":
        return lines
    shards = max(pipeline.shards, pipeline.shards_of("evaluation"))
    if all_gpus is not None and 0 < all_gpus < shards * pods.gpu_count:
        lines.append(
            f"generation_pods: {shards} shards of {pods.gpu_count} GPUs each, but the pool has {all_gpus} now: shards wait"
            " for a GPU and take turns, unless it grows; or lower pipeline.shards and pipeline.evaluation_shards"
        )
    chunks = math.ceil(settings.difficulty.prompts_per_round / settings.sampling.chunk_prompts)
    if pipeline.shards > chunks:
        lines.append(
            f"generation_pods: a round has {chunks} chunks for {pipeline.shards} shards, so that"
            f" {pipeline.shards - chunks} have nothing to do: lower sampling.chunk_prompts or pipeline.shards"
        )
    return lines


def _pool(
    cluster: ClusterSettings, section: str, pods: PodSettings, run_inputs: dict[str, Any]
) -> tuple[int | None, float, int | None, str]:
    """(GPUs of the pool's largest node, GiB of one GPU, GPUs of all nodes, what cannot be told).

    By the settings first, else by the node list.
    """
    gpus: int | None = cluster.gpus_per_node or None
    memory = float(cluster.gpu_memory)
    if gpus and memory:
        return gpus, memory, None, ""
    selector = run_inputs.get(f"cluster_{section.removesuffix('_pods')}_node_selector") or pairs(pods.node_selector)
    taints = run_inputs.get("cluster_gpu_tolerations") or [toleration(item) for item in cluster.gpu_tolerations]
    tolerated = [*taints, *(toleration(item) for item in pods.tolerations)]
    try:
        nodes = list_nodes(run_inputs.get("cluster_gpu_type") or cluster.gpu_type, selector, tolerated)
    except Unknown as error:
        return (
            gpus,
            memory,
            None,
            f"the size of its pool is not checked: {error}; say cluster.gpus_per_node, cluster.gpu_memory",
        )
    if gpus is None:
        gpus = max((node.gpus for node in nodes), default=0)
    fitting = [node.gpu_memory for node in nodes if node.gpus >= pods.gpu_count]
    return gpus, memory or max(fitting, default=0.0), sum(node.gpus for node in nodes), ""
