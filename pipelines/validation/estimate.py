"""What a run will need: GPU memory and GPU hours a step. Upper bounds by simple formulas, not a measurement.

Memory of training, bytes a GPU, with P parameters of which T are trained, b bytes a weight, N GPUs (ZeRO, Rajbhandari et al.
2020, arXiv 1910.02054, section 3.1: weights b P, gradients b T, fp32 master and Adam's two moments 12 T; stage 1 divides
the last by N, stage 2 the gradients too, stage 3 the weights too); a reference model is b P more. Activations of a
micro-batch of s tokens: 34 s h bytes a layer of width h in 16 bits (Korthikanti et al. 2022, arXiv 2205.05198,
section 4.1, without the attention matrix, which is never kept), with checkpointing of one layer plus each layer's input.

Memory of sampling: weights and the keys and values of one longest sequence, over tensor_parallel_size GPUs.

Hours: 2 P operations a token forward, 4 T backward, 2 P again with checkpointing, over the GPU's dense bf16 peak times the
share of it that is commonly reached (_TRAINING_SHARE, _SAMPLING_SHARE). Prompts and responses count at their longest.
Evaluations are left out: how many questions there are is known after ingest.
"""

from __future__ import annotations

from typing import NamedTuple

from pipelines.pods.settings import ClusterSettings
from pipelines.settings import RunSettings
from pipelines.validation.model_size import ModelSize

GIB = 1 << 30
_CONTEXT = 2 * GIB  # of CUDA, NCCL, and what allocators lose
_TRAINING_SHARE, _SAMPLING_SHARE = 0.35, 0.15
_BYTES = {"bfloat16": 2, "float32": 4}


class Need(NamedTuple):
    """What one step needs in the whole run: GiB of one GPU, and GPU hours of all rounds."""

    step: str
    memory: float
    gpu_hours: float


def needs(model: ModelSize, settings: RunSettings, cluster: ClusterSettings, num_nodes: int = 1) -> list[Need]:
    """The steps of the rounds that use a GPU. A round is trained on `num_nodes` nodes."""
    group = (
        settings.ingest.max_prompt_length + settings.sampling.num_generations * settings.sampling.max_completion_length
    )
    tokens = settings.pipeline.rounds * settings.difficulty.prompts_per_round * group
    hinted = settings.ingest.max_prompt_length + settings.augmentation.hint_generations * (
        settings.sampling.max_completion_length
    )
    hints = settings.pipeline.rounds * settings.difficulty.prompts_per_round * hinted
    hints *= settings.augmentation.augment_mode in ("both", "easier_only")
    sampling = sampling_memory(model, settings) / GIB
    per_second = cluster.gpu_tflops * 1e12

    def hours(operations: float, share: float) -> float:
        return operations / (per_second * share) / 3600

    forward = 2 * model.parameters
    recomputed = forward * settings.training.gradient_checkpointing
    reference = forward * settings.training.needs_reference
    one_pass = tokens * (forward + 4 * model.language + recomputed)
    training = one_pass * settings.training.num_iterations + tokens * (forward + reference)
    return [
        Need("difficulty", sampling, hours(forward * tokens, _SAMPLING_SHARE)),
        Need("augmentation", sampling, hours(forward * hints, _SAMPLING_SHARE)),
        Need("rollout", sampling, hours(forward * tokens, _SAMPLING_SHARE)),
        Need("training", training_memory(model, settings, num_nodes) / GIB, hours(training, _TRAINING_SHARE)),
    ]


def training_memory(model: ModelSize, settings: RunSettings, num_nodes: int = 1) -> float:
    """Bytes of one GPU while a round is trained."""
    training = settings.training
    ranks, width = training.nproc_per_node * num_nodes, _BYTES[training.dtype]
    trained = model.language if not training.lora_r else 4 * model.layers * training.lora_r * 4 * model.hidden
    adapter = trained if training.lora_r else 0
    weights = width * (model.parameters + adapter) / (ranks if training.zero_stage == 3 else 1)
    if training.offload_param:
        weights = width * model.parameters / model.layers
    gradients = width * trained / (ranks if training.zero_stage >= 2 else 1)
    optimizer = 0 if training.offload_optimizer else 12 * trained / ranks
    reference = width * model.parameters * (training.needs_reference and not training.lora_r)
    group = (
        settings.ingest.max_prompt_length + settings.sampling.num_generations * settings.sampling.max_completion_length
    )
    tokens = max(training.micro_batch_tokens, group)
    layer = 17 * width * tokens * model.hidden
    if training.gradient_checkpointing:
        activations = layer + model.layers * width * tokens * model.hidden
    else:
        activations = model.layers * layer
    logits = 3 * 4 * training.lm_head_chunk * model.vocabulary
    return weights + gradients + optimizer + reference + activations + logits + _CONTEXT


def sampling_memory(model: ModelSize, settings: RunSettings) -> float:
    """Bytes that a GPU must have so that the engine's share of it holds the weights and one longest sequence."""
    generation = settings.generation
    width = 4 if generation.dtype == "float32" else 2
    cache = 2 * model.layers * model.kv_width * width * generation.max_model_len
    held = (width * model.parameters + cache) / generation.tensor_parallel_size
    return (held + _CONTEXT) / generation.gpu_memory_utilization
