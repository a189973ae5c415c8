"""Sampling responses: what a request is, what comes back, and the engine that does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from components.shared.generation.settings import GenerationSettings
from components.shared.schemas import Response, Sample

__all__ = ["GenerationSettings", "Prompt", "Sampled", "Sampler", "make_sampler"]


@dataclass(frozen=True, eq=False)
class Prompt:
    """What one request shows the model."""

    key: str  # unique in a call; errors name it
    sample: Sample
    frames: np.ndarray  # uint8 (T, H, W, 3), after augmentation; H and W multiples of 28
    fps: float  # of these frames
    hint: str = ""
    given_answer: str = ""
    image: np.ndarray | None = None  # uint8 (H, W, 3); there if and only if the sample names an image


@dataclass(frozen=True)
class Sampled:
    """The answer to one Prompt."""

    key: str
    prompt_token_ids: tuple[int, ...]  # as the model saw them, video and image pads expanded
    responses: tuple[Response, ...]  # in index order, rewards still empty


class Sampler(Protocol):
    """An engine that samples responses. It starts when it is first needed, and again for another policy."""

    settings: GenerationSettings  # what the engine was made with
    startup_seconds: float  # import, load and warm-up so far; 0.0 until the engine was needed
    versions: dict[str, str]  # package -> version, of what determines the tokens; empty until the engine was needed

    def sample(
        self,
        policy: Path,
        prompts: Sequence[Prompt],
        *,
        n: int,
        seeds: Sequence[int],
        temperature: float,
        max_completion_length: int,
    ) -> list[Sampled]:
        """`n` responses to every prompt, in the prompts' order; response i of prompt p uses seed `seeds[p] + i`.

        top_p is 1 and top_k is off. Temperature 0 is greedy and takes n = 1 only. Log-probabilities are those of the
        distribution sampled from: after the ban (`policy_inputs.banned_token_ids`) and the temperature. The tokens
        depend on the arguments alone, not on what the process did before.

        Raises ValueError, naming the prompt, if a prompt does not fit into `max_model_len` or its frames have a size
        that the model cannot take; RuntimeError if the engine does not start or saw other tokens than the trainer.
        """
        ...

    def close(self) -> None:
        """Give the engine's memory back. The next `sample` starts it again."""
        ...


def make_sampler(settings: GenerationSettings) -> Sampler:
    """The engine that the settings name, not started yet."""
    if settings.engine == "vllm":
        from components.shared.generation.vllm_engine import VllmSampler

        return VllmSampler(settings)
    from components.shared.generation.transformers_engine import TransformersSampler

    return TransformersSampler(settings)
