"""Settings of sampling responses, shared by the steps of a round."""

from __future__ import annotations

from components.shared.settings import StepSettings, setting


class SamplingSettings(StepSettings):
    """How groups of responses are sampled. top_p is 1 and top_k off: the policy's own distribution."""

    num_generations: int = setting(8, "Responses a prompt: the size G of a group.", unit="responses", ge=2, le=1024)
    temperature: float = setting(1.0, "Sampling temperature.", gt=0, le=10)
    max_completion_length: int = setting(256, "Longest response; a longer one is cut off.", unit="tokens", ge=1)
    chunk_prompts: int = setting(
        64, "Prompts sampled and stored together: what an interrupted step repeats at most.", unit="prompts", ge=1
    )
