"""Sampling with the transformers model itself, one prompt at a time: slow, and the check on vLLM."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.families import family_of
from components.shared.generation import GenerationSettings, Prompt, Sampled
from components.shared.generation.quiet import captured_output
from components.shared.generation.requests import checked_token_ids, make_response
from components.shared.policy_inputs import (
    PromptInputs,
    banned_token_ids,
    encode_prompt,
    eos_token_ids,
    load_processor,
    model_inputs,
)
from components.shared.schemas import Response
from components.shared.transformers_class import transformers_class

if TYPE_CHECKING:
    import torch


class TransformersSampler:
    """See `Sampler`. The model is loaded anew for another policy."""

    def __init__(self, settings: GenerationSettings) -> None:
        self.startup_seconds = 0.0
        self.versions: dict[str, str] = {}
        self.settings = settings
        self._model: Any = None
        self._policy: Path | None = None

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
        """See `Sampler.sample`."""
        processor = load_processor(policy)
        token_ids = checked_token_ids(
            processor,
            prompts,
            n=n,
            seeds=seeds,
            temperature=temperature,
            max_completion_length=max_completion_length,
            max_model_len=self.settings.max_model_len,
        )
        self._start(policy)
        sampled = []
        for prompt, ids, seed in zip(prompts, token_ids, seeds, strict=True):
            inputs = encode_prompt(processor, prompt)
            response_seeds = [seed + index for index in range(n)]
            responses = _respond(self._model, processor, inputs, response_seeds, temperature, max_completion_length)
            sampled.append(Sampled(prompt.key, ids, tuple(responses)))
        return sampled

    def close(self) -> None:
        """See `Sampler.close`."""
        self._model = self._policy = None

    def _start(self, policy: Path) -> None:
        if self._policy == policy:
            return
        began = time.monotonic()
        import torch

        on_gpu = torch.cuda.is_available()
        name = self.settings.dtype if self.settings.dtype != "auto" else "bfloat16" if on_gpu else "float32"
        with captured_output():  # its progress bar
            model: Any = transformers_class(family_of(policy)).from_pretrained(
                policy, dtype=getattr(torch, name), local_files_only=True
            )
        self._model = model.to("cuda" if on_gpu else "cpu").eval()
        self._policy = policy
        self.startup_seconds += time.monotonic() - began
        self.versions = {package: importlib.metadata.version(package) for package in ("transformers", "torch")}


def _respond(
    model: Any,
    processor: Any,
    inputs: PromptInputs,
    seeds: Sequence[int],
    temperature: float,
    max_completion_length: int,
) -> list[Response]:
    """One response a seed. The prompt runs once; every response draws from a generator of its own."""
    import torch

    banned = torch.tensor(banned_token_ids(processor), device=model.device)
    ends = set(eos_token_ids(processor))
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    tokens: list[list[int]] = [[] for _ in seeds]
    logprobs: list[list[float]] = [[] for _ in seeds]
    with torch.inference_mode():
        step = model(**model_inputs(inputs, model.device), use_cache=True, logits_to_keep=1)
        cache = step.past_key_values
        cache.batch_repeat_interleave(len(seeds))
        logits = step.logits[:, -1].expand(len(seeds), -1)
        for position in range(inputs.next_position, inputs.next_position + max_completion_length):
            logps = _log_probabilities(logits, banned, temperature)
            chosen = [_draw(row, generator, temperature) for row, generator in zip(logps, generators, strict=True)]
            for row, token in enumerate(chosen):
                if not (tokens[row] and tokens[row][-1] in ends):
                    tokens[row].append(token)
                    logprobs[row].append(float(logps[row, token]))
            if all(row[-1] in ends for row in tokens):
                break
            step = model(
                input_ids=torch.tensor(chosen, device=model.device)[:, None],
                position_ids=torch.full((3, len(seeds), 1), position, device=model.device),
                past_key_values=cache,
                use_cache=True,
            )
            logits = step.logits[:, -1]
    return [
        make_response(
            processor,
            index=index,
            seed=seed,
            token_ids=tokens[index],
            logprobs=logprobs[index],
            stopped=tokens[index][-1] in ends,
        )
        for index, seed in enumerate(seeds)
    ]


def _log_probabilities(logits: torch.Tensor, banned: torch.Tensor, temperature: float) -> torch.Tensor:
    """Log-probabilities (rows, vocabulary) in float32 on the CPU, of the distribution that is sampled from."""
    masked = logits.float().index_fill(-1, banned, float("-inf"))
    return (masked / (temperature or 1.0)).log_softmax(dim=-1).cpu()


def _draw(logps: torch.Tensor, generator: torch.Generator, temperature: float) -> int:
    import torch

    if temperature == 0:
        return int(logps.argmax())
    return int(torch.multinomial(logps.exp(), 1, generator=generator))
