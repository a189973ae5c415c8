"""The study's engine draws from the policy's own distribution: that of the trainer's forward, and vLLM's."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from components.shared.generation import GenerationSettings, Prompt, make_sampler
from components.shared.policy_inputs import banned_token_ids, encode_prompt, load_processor
from components.shared.schemas import Sample
from components.training.forward import PackedPolicy
from components.training.packing import batch, pack
from components.training.policy import load_policy
from tests.benchmarks.study.decoding import drawn
from tests.benchmarks.study.features import Recent, SeeingOnce
from tests.benchmarks.study.sampler import BatchSampler

BASE = Path(__file__).parents[2] / "components/ingest/tiny_model/weights"
LENGTH = 40


def prompts(count: int) -> list[Prompt]:
    """Questions of different lengths about random videos, some with hints."""
    rng = np.random.default_rng(0)
    made = []
    for index in range(count):
        sample = Sample(
            id=f"q{index}",
            video="v",
            question=f"What color is the {('square', 'circle that moves', 'cross')[index % 3]}?",
            options=("red", "green", "blue", "yellow"),
            answer="A",
            task="multiple_choice",
        )
        frames = rng.integers(0, 256, (8, 56, 56, 3), dtype=np.uint8)
        made.append(Prompt(sample.id, sample, frames, fps=1.0, hint="look at the cross." * (index % 2)))
    return made


def sampler(rows: int = 256) -> BatchSampler:
    processor = load_processor(BASE)
    policy = SeeingOnce(load_policy(BASE, torch.float32), banned_token_ids(processor), 2048)
    policy.seen = Recent()
    return BatchSampler(policy, processor, GenerationSettings(max_num_seqs=rows))


def ask(engine: object, policy: Path, asked: list[Prompt], n: int, temperature: float = 1.0) -> list:
    seeds = [1000 * index for index in range(len(asked))]
    return engine.sample(  # type: ignore[attr-defined]
        policy, asked, n=n, seeds=seeds, temperature=temperature, max_completion_length=LENGTH
    )


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base with other weights in its language model."""
    folder = tmp_path_factory.mktemp("other") / "policy"
    shutil.copytree(BASE, folder)
    weights = load_file(folder / "model.safetensors")
    torch.manual_seed(0)
    changed = {
        name: value if "visual" in name else value + 0.01 * torch.randn_like(value) for name, value in weights.items()
    }
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_log_probs_are_those_of_the_trainers_own_forward() -> None:
    processor, asked = load_processor(BASE), prompts(6)
    policy = PackedPolicy(load_policy(BASE, torch.float32), banned_token_ids(processor), 2048)
    longest = 0
    for prompt, sampled in zip(asked, ask(sampler(), BASE, asked, 5), strict=True):
        inputs = encode_prompt(processor, prompt)
        packed = batch([pack(inputs, [response.token_ids for response in sampled.responses])])
        with torch.no_grad():
            logprobs, _ = policy(packed, policy.visual_features(inputs))
        for row, response in enumerate(sampled.responses):
            expected = logprobs[0, row, : len(response.token_ids)]
            assert torch.allclose(expected, torch.tensor(response.logprobs), atol=1e-5)
            longest = max(longest, len(response.token_ids))
    assert longest > 15  # so that rows ended at different times and the cache was gathered anew


def test_a_token_comes_as_often_as_its_probability_says() -> None:
    """Inverse distribution function on an even grid: counts are within one of N p (by definition)."""
    probabilities = torch.tensor([0.0, 0.05, 0.6, 0.0, 0.349, 0.001, 0.0])
    grid = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    ids = drawn(probabilities.log().expand(2000, -1), grid)
    counts = torch.bincount(ids, minlength=7)
    assert torch.all((counts - 2000 * probabilities).abs() <= 1) and counts[0] == counts[3] == counts[6] == 0


def test_greedy_answers_are_vllms() -> None:
    engine = make_sampler(GenerationSettings(dtype="float32", max_model_len=512))
    asked = prompts(6)
    theirs, ours = ask(engine, BASE, asked, 1, 0.0), ask(sampler(), BASE, asked, 1, 0.0)
    engine.close()
    for one, other in zip(ours, theirs, strict=True):
        assert one.prompt_token_ids == other.prompt_token_ids
        assert one.responses[0].token_ids == other.responses[0].token_ids
        assert one.responses[0].text == other.responses[0].text
        assert one.responses[0].finish_reason == other.responses[0].finish_reason
        # vLLM's log-probs are after a softmax of its own kernels
        assert np.allclose(one.responses[0].logprobs, other.responses[0].logprobs, atol=1e-4)


def test_weights_change_in_place_as_if_the_engine_were_new(other: Path) -> None:
    used, asked = sampler(), prompts(4)
    first = ask(used, BASE, asked, 3)
    second = ask(used, other, asked, 3)
    assert second == ask(sampler(), other, asked, 3) != first
    assert ask(used, BASE, asked, 3) == first


def test_answers_depend_on_seeds_and_not_on_what_is_asked_beside(other: Path) -> None:
    asked = prompts(5)
    together, apart = ask(sampler(), BASE, asked, 4), ask(sampler(rows=4), BASE, asked, 4)
    for one, two in zip(together, apart, strict=True):
        assert [r.token_ids for r in one.responses] == [r.token_ids for r in two.responses]
        assert [r.seed for r in one.responses] == [r.seed for r in two.responses]


def test_another_vision_tower_is_refused(other: Path, tmp_path: Path) -> None:
    shutil.copytree(other, tmp_path / "policy")
    weights = load_file(other / "model.safetensors")
    changed = {name: value + 0.01 * ("visual" in name) for name, value in weights.items()}
    save_file(changed, tmp_path / "policy" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="another vision tower"):
        ask(sampler(), tmp_path / "policy", prompts(1), 2)
