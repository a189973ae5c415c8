"""Settings of the engine that samples responses."""

from __future__ import annotations

from typing import Literal

from components.shared.settings import StepSettings, setting


class GenerationSettings(StepSettings):
    """How responses are sampled, whatever they are sampled for."""

    engine: Literal["vllm", "transformers"] = setting(
        "vllm", "Engine that samples responses; transformers is slow and serves as a cross-check."
    )
    dtype: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", "Number format of the sampling engine; auto is float32 on a CPU and bfloat16 on a GPU."
    )
    max_model_len: int = setting(2048, "Longest prompt plus response that the engine accepts.", unit="tokens", ge=64)
    max_num_seqs: int = setting(64, "Most responses that are sampled at the same time.", unit="responses", ge=1)
    gpu_memory_utilization: float = setting(
        0.85, "Share of a GPU's memory that the engine takes; without effect on a CPU.", unit="share", gt=0, le=1
    )
    tensor_parallel_size: int = setting(1, "GPUs that share one copy of the model while sampling.", unit="GPUs", ge=1)
    enforce_eager: bool = setting(
        True, "Whether the engine runs without compiling the model: starts sooner, samples slower on large models."
    )
