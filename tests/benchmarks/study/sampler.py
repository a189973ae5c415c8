"""The study's engine: the pipeline's `Sampler`, on one model in this process whose weights change from call to call."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.shared.generation import GenerationSettings, Prompt, Sampled
from components.shared.generation.requests import checked_token_ids, make_response
from components.shared.policy_inputs import (
    banned_token_ids,
    encode_prompt,
    eos_token_ids,
    render,
)
from components.training.policy import copy_weights
from tests.benchmarks.study.decoding import Decoder, Encoded, Row
from tests.benchmarks.study.features import Recent, SeeingOnce


class BatchSampler:
    """See `Sampler`. All policies are of one base: the same architecture, processor and vision tower."""

    def __init__(self, policy: SeeingOnce, processor: Any, settings: GenerationSettings) -> None:
        """`policy` is this sampler's own: every call overwrites its weights where they are of another folder."""
        self.settings, self.startup_seconds = settings, 0.0
        self.versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
        self._policy, self._processor = policy, processor
        self._folder: Path | None = None
        self._decoder: Decoder | None = None
        self._encoded: Recent[Encoded] = Recent()

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
        expected = checked_token_ids(
            self._processor,
            prompts,
            n=n,
            seeds=seeds,
            temperature=temperature,
            max_completion_length=max_completion_length,
            max_model_len=self.settings.max_model_len,
        )
        decoder = self._load(policy)
        answers: dict[int, list[Row]] = {}
        by_length = sorted(range(len(prompts)), key=lambda index: len(expected[index]))  # little padding
        size = max(1, self.settings.max_num_seqs // n)
        for start in range(0, len(prompts), size):
            batch = by_length[start : start + size]
            draws = [[uniforms(seeds[index] + i, max_completion_length) for i in range(n)] for index in batch]
            rows = decoder.respond(
                [self._encode(prompts[index]) for index in batch],
                np.array(draws) if temperature else None,
                max_completion_length,
                temperature,
            )
            answers.update(zip(batch, rows, strict=True))
        ends = set(eos_token_ids(self._processor))
        return [
            Sampled(
                prompt.key,
                expected[index],
                tuple(
                    make_response(
                        self._processor,
                        index=i,
                        seed=seeds[index] + i,
                        token_ids=row.token_ids,
                        logprobs=row.logprobs,
                        stopped=row.token_ids[-1] in ends,
                    )
                    for i, row in enumerate(answers[index])
                ),
            )
            for index, prompt in enumerate(prompts)
        ]

    def close(self) -> None:
        """See `Sampler.close`."""
        self._folder = self._decoder = None

    def _load(self, folder: Path) -> Decoder:
        if self._decoder is None or folder != self._folder:
            if copy_weights(self._policy.model, folder):
                raise ValueError(f"{folder}: another vision tower than the base's, whose tokens are shared")
            banned, ends = banned_token_ids(self._processor), eos_token_ids(self._processor)
            self._folder, self._decoder = folder, Decoder(self._policy.model, banned, ends)
        return self._decoder

    def _encode(self, prompt: Prompt) -> Encoded:
        pixels = hashlib.sha256(np.ascontiguousarray(prompt.frames).tobytes()).digest()
        return self._encoded.of((render(self._processor, prompt), pixels, prompt.fps), lambda: self._made(prompt))

    def _made(self, prompt: Prompt) -> Encoded:
        inputs = encode_prompt(self._processor, prompt)
        return Encoded(inputs.input_ids, inputs.position_ids, self._policy.visual_features(inputs))


def uniforms(seed: int, count: int) -> np.ndarray:
    """`count` numbers in [0, 1), the same for the same seed."""
    return np.random.Generator(np.random.Philox(seed)).random(count)
