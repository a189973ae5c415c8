"""vLLM runs a prompt on the token ids and M-RoPE positions that the trainer computes for it, whatever the frame rate.

The engine is the project's own; what its model is asked for and answers is written down on the way, not replaced.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.shared.families import FAMILIES, family_of
from components.shared.generation import GenerationSettings, Prompt, Sampled, make_sampler
from components.shared.policy_inputs import (
    PromptInputs,
    banned_token_ids,
    encode_prompt,
    load_processor,
)
from components.shared.schemas import Response, Sample
from components.shared.transformers_class import transformers_class
from components.training.forward import PackedPolicy
from components.training.packing import batch, pack
from tests.tiny_policies import write_policy_of

FRAMES = (1, 2, 7, 16)
SLOWEST, FASTEST = 0.5, 30.0
# frames a second; the last three are those of 16 frames of 47 seconds, of ten minutes and of an hour
RATES = (SLOWEST, 1.0, 1.7, 2.0, 2.4, 7.5, 23.976, 29.97, FASTEST, 15 / 47.3, 15 / 600.7, 15 / 3601)
TOKENS_PER_SECOND = 2  # of the published Qwen2.5-VL; the tiny ones have 1
# nats a token, against the trainer in float32; measured: 2e-6, and 3e-2 in bfloat16
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}
SHOWS = 0.2  # nats; measured where times are dropped: 0.3 to 0.4
WITHOUT_TIMES = 2.0  # frames a second of a pair of frames that lasts vLLM's default, one second


@dataclass(frozen=True, eq=False)
class Seen:
    """What vLLM's model was asked for one prompt's positions with, and what it answered."""

    token_ids: tuple[int, ...]
    positions: np.ndarray  # (3, tokens)
    next_position: int  # of the first response token
    grids: dict[str, list[int]]  # by modality
    seconds: float | None  # that a temporal patch lasts


@dataclass(frozen=True)
class Asked:
    """A policy, the engine's number format, what vLLM's model saw of each prompt, and its responses, in the prompts' order."""

    policy: Path
    dtype: str
    prompts: Sequence[Prompt]
    seen: Sequence[Seen]
    sampled: Sequence[Sampled]


def make_prompt(frames: int, fps: float, image: bool) -> Prompt:
    """Each has a text of its own, by which what vLLM saw of it is told from the others."""
    key = f"{frames} frames, {fps:g} a second, {'an image' if image else 'no image'}"
    rng = np.random.default_rng(frames)
    sample = Sample(
        id=key, video="v", image="i" if image else "", question=f"What is in {key}?", answer="a ball", task="free_form"
    )
    video = rng.integers(0, 256, (frames, 56, 84, 3), dtype=np.uint8)
    picture = rng.integers(0, 256, (84, 56, 3), dtype=np.uint8) if image else None
    return Prompt(key, sample, video, fps, image=picture)


def worded(prompt: Prompt, **changes: Any) -> Prompt:
    """The prompt in another project's words."""
    key = f"{prompt.key}, as {changes['prompt_template']} asks it"
    sample = Sample.model_validate(prompt.sample.model_dump() | changes | {"question": f"What is in {key}?"})
    return replace(prompt, key=key, sample=sample)


MATRIX = [make_prompt(*cell) for cell in itertools.product(FRAMES, RATES, (False, True))]
MATRIX += [  # the first one's text stands before its video
    worded(make_prompt(7, 1.7, False), prompt_template="videochat_r1", task="temporal_grounding", spans=[(1, 2)]),
    worded(make_prompt(7, 1.7, True), prompt_template="video_r1"),
]


def write_policy(model_type: str, folder: Path) -> Path:
    """The tiny random policy of a family; where positions count time, with as many of them a second as published."""
    policy = write_policy_of(model_type, folder, [prompt.sample.question for prompt in MATRIX])
    path = policy / "config.json"
    config = json.loads(path.read_text())
    if FAMILIES[model_type].timed:
        config["vision_config"]["tokens_per_second"] = TOKENS_PER_SECOND
        path.write_text(json.dumps(config))
    return policy


def ask_vllm(policy: Path, prompts: Sequence[Prompt], monkeypatch: pytest.MonkeyPatch, dtype: str) -> Asked:
    """Sample two responses to each prompt, and write down what vLLM's model saw."""
    model_class = family_of(policy).vllm_class()
    original, calls = model_class.get_mrope_input_positions, {}

    def recorded(model: Any, input_tokens: list[int], mm_features: list[Any]) -> Any:
        positions, delta = original(model, input_tokens, mm_features)
        data = {feature.modality: feature.data for feature in mm_features}
        seconds = data["video"].get("second_per_grid_ts")
        ids = tuple(input_tokens)
        calls[ids] = Seen(
            token_ids=ids,
            positions=positions.numpy().copy(),
            next_position=len(ids) + delta,
            grids={name: item[f"{name}_grid_thw"].data.tolist() for name, item in data.items()},
            seconds=None if seconds is None else seconds.data.item(),
        )
        return positions, delta

    monkeypatch.setattr(model_class, "get_mrope_input_positions", recorded)
    sampler = make_sampler(GenerationSettings(dtype=dtype))
    seeds = list(range(len(prompts)))
    try:
        sampled = sampler.sample(policy, prompts, n=2, seeds=seeds, temperature=1.0, max_completion_length=8)
    finally:
        sampler.close()
    return Asked(policy, dtype, prompts, [calls[item.prompt_token_ids] for item in sampled], sampled)


# in bfloat16, as on a GPU, for the one family whose positions count time
ENGINES = [("qwen2_5_vl", "float32"), ("qwen2_vl", "float32"), ("qwen2_5_vl", "bfloat16")]


@pytest.fixture(scope="module", params=ENGINES, ids="-".join)
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """The whole matrix, asked of vLLM at once."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        model_type, dtype = request.param
        policy = write_policy(model_type, tmp_path_factory.mktemp("policy") / model_type)
        yield ask_vllm(policy, MATRIX, monkeypatch, dtype)


def test_vllm_sees_the_token_ids_and_positions_of_the_trainer(asked: Asked) -> None:
    processor = load_processor(asked.policy)
    timed = family_of(asked.policy).timed
    assert len({seen.token_ids for seen in asked.seen}) == len(MATRIX) == len(FRAMES) * len(RATES) * 2 + 2
    for prompt, seen in zip(asked.prompts, asked.seen, strict=True):
        ours = encode_prompt(processor, prompt)
        grids = {"video": ours.video_grid_thw, "image": ours.image_grid_thw}
        assert seen.token_ids == tuple(ours.input_ids.tolist()), prompt.key
        assert seen.grids == {name: grid[0].tolist() for name, grid in grids.items() if grid is not None}, prompt.key
        np.testing.assert_array_equal(seen.positions, ours.position_ids.numpy(), err_msg=prompt.key)
        assert seen.next_position == ours.next_position, prompt.key
        assert seen.seconds == (ours.second_per_grid_ts.item() if timed else None), prompt.key


def test_a_videos_temporal_positions_follow_its_times(asked: Asked) -> None:
    # by hand, 16 frames: the eighth pair begins 7 x 2 / fps seconds after the first, at two positions a second
    last = {0.5: 56, 1.0: 28, 30.0: 0} if family_of(asked.policy).timed else {0.5: 7, 1.0: 7, 30.0: 7}
    video = load_processor(asked.policy).video_token_id
    for prompt, seen in zip(asked.prompts, asked.seen, strict=True):
        if len(prompt.frames) == 16 and prompt.fps in last:
            times = seen.positions[0, np.array(seen.token_ids) == video]
            assert times.max() - times.min() == last[prompt.fps], prompt.key


def trainer_logprobs(policy: PackedPolicy, inputs: PromptInputs, responses: Sequence[Response]) -> list[np.ndarray]:
    """Log-probs of each response's tokens by the trainer's own forward, the group packed as it is trained on."""
    packed = batch([pack(inputs, [response.token_ids for response in responses])])
    with torch.no_grad():
        logprobs, _ = policy(packed, policy.visual_features(inputs))
    return [row[: len(response.token_ids)].numpy() for row, response in zip(logprobs[0], responses, strict=True)]


def test_sampled_log_probs_are_the_trainers_and_hang_on_the_frames_times(asked: Asked) -> None:
    processor = load_processor(asked.policy)
    model = transformers_class(family_of(asked.policy)).from_pretrained(asked.policy, dtype=torch.float32).eval()
    policy = PackedPolicy(model, banned_token_ids(processor), lm_head_chunk=64)
    extremes = [
        (prompt, item.responses)
        for prompt, item in zip(asked.prompts, asked.sampled, strict=True)
        if len(prompt.frames) == max(FRAMES) and prompt.fps in (SLOWEST, FASTEST)
    ]
    assert len(extremes) == 4  # with an image and without
    for prompt, responses in extremes:
        ours = trainer_logprobs(policy, encode_prompt(processor, prompt), responses)
        untimed = trainer_logprobs(policy, encode_prompt(processor, replace(prompt, fps=WITHOUT_TIMES)), responses)
        theirs = [np.array(response.logprobs) for response in responses]
        difference = max(np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True))
        dropped = max(np.abs(a - b).max() for a, b in zip(untimed, theirs, strict=True))
        assert difference < TOLERANCE[asked.dtype], prompt.key
        if family_of(asked.policy).timed:
            assert dropped > SHOWS, f"{prompt.key}: these log-probs would not show that times were dropped"
