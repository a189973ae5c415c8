"""Both engines sample what the trainer's own forward would: same prompt, same pixels, same positions, same ban."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from components.shared.families import family_of
from components.shared.generation import GenerationSettings, Prompt, Sampled, Sampler, make_sampler
from components.shared.policy_inputs import (
    banned_token_ids,
    encode_prompt,
    eos_token_ids,
    load_processor,
    model_inputs,
)
from components.shared.schemas import Response, Sample
from components.shared.transformers_class import transformers_class
from tests.tiny_policies import write_policy_of

ROOT = Path(__file__).parents[2]
POLICY = ROOT / "components/ingest/tiny_model/weights"


def make_prompts(count: int, first: int = 0, fps: float = 1.7, image: bool = False) -> list[Prompt]:
    rng = np.random.default_rng(first)
    prompts = []
    for index in range(first, first + count):
        sample = Sample(
            id=f"q{index}",
            video="v",
            image="i" if image else "",
            question="Where is the square?",
            options=("left", "right"),
            answer="A",
            task="multiple_choice",
        )
        frames = rng.integers(0, 256, (8, 56, 56, 3), dtype=np.uint8)
        picture = rng.integers(0, 256, (56, 84, 3), dtype=np.uint8) if image else None
        prompts.append(Prompt(sample.id, sample, frames, fps, image=picture))
    return prompts


def ask(
    sampler: Sampler,
    prompts: list[Prompt],
    n: int = 3,
    temperature: float = 1.0,
    length: int = 24,
    policy: Path = POLICY,
) -> list[Sampled]:
    seeds = [1000 * index for index in range(len(prompts))]
    return sampler.sample(policy, prompts, n=n, seeds=seeds, temperature=temperature, max_completion_length=length)


@pytest.fixture(scope="module")
def vllm() -> Iterator[Sampler]:
    sampler = make_sampler(GenerationSettings())
    yield sampler
    sampler.close()


@pytest.fixture(scope="module")
def transformers() -> Sampler:
    return make_sampler(GenerationSettings(engine="transformers"))


@pytest.fixture(scope="module")
def model() -> object:
    load_processor(POLICY)
    from transformers import Qwen2_5_VLForConditionalGeneration

    return Qwen2_5_VLForConditionalGeneration.from_pretrained(POLICY).eval()


def forward_logprobs(model: object, prompt: Prompt, response: Response, policy: Path = POLICY) -> np.ndarray:
    """Log-probabilities (tokens,) of a response from one plain forward over prompt and response."""
    import torch

    processor = load_processor(policy)
    inputs = encode_prompt(processor, prompt)
    arguments = model_inputs(inputs, "cpu")
    tokens = torch.tensor(response.token_ids)
    count = len(tokens)
    positions = (inputs.next_position + torch.arange(count)).expand(3, 1, count)
    arguments["input_ids"] = torch.cat([arguments["input_ids"], tokens[None]], dim=1)
    arguments["position_ids"] = torch.cat([arguments["position_ids"], positions], dim=2)
    arguments["mm_token_type_ids"] = torch.cat([arguments["mm_token_type_ids"], torch.zeros_like(tokens)[None]], dim=1)
    with torch.no_grad():
        logits = model(**arguments).logits[0, -count - 1 : -1].float()
    logits[:, list(banned_token_ids(processor))] = float("-inf")
    return logits.log_softmax(dim=-1)[torch.arange(count), tokens].numpy()


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
@pytest.mark.parametrize("fps, image", [(1.7, False), (0.3, False), (2.0, True)])
def test_logprobs_are_those_of_a_plain_forward(
    engine: str, fps: float, image: bool, model: object, request: pytest.FixtureRequest
) -> None:
    prompts = make_prompts(2, fps=fps, image=image)
    for prompt, sampled in zip(prompts, ask(request.getfixturevalue(engine), prompts), strict=True):
        for response in sampled.responses:
            np.testing.assert_allclose(response.logprobs, forward_logprobs(model, prompt, response), atol=1e-3)


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_qwen2_vl_is_sampled_with_an_image_beside_the_video(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    # the engines also compare their prompts' token ids with the trainer's
    policy = write_policy_of("qwen2_vl", tmp_path / "policy", ["Where is the square? left right Think, then answer."])
    model = transformers_class(family_of(policy)).from_pretrained(policy).eval()
    prompts = make_prompts(1, fps=0.3) + make_prompts(1, first=1, image=True)
    for prompt, sampled in zip(prompts, ask(request.getfixturevalue(engine), prompts, policy=policy), strict=True):
        for response in sampled.responses:
            expected = forward_logprobs(model, prompt, response, policy)
            np.testing.assert_allclose(response.logprobs, expected, atol=1e-3)


def test_one_call_gives_the_same_tokens_whatever_happened_before(vllm: Sampler) -> None:
    prompts = make_prompts(3)
    first = ask(vllm, prompts)
    ask(vllm, make_prompts(5, first=100), n=2)
    assert ask(vllm, prompts) == first
    vllm.close()
    assert ask(vllm, prompts) == first  # as in a fresh process: the engine is a new one


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_responses_are_as_asked_for(engine: str, request: pytest.FixtureRequest) -> None:
    processor = load_processor(POLICY)
    banned, ends = set(banned_token_ids(processor)), set(eos_token_ids(processor))
    prompts = make_prompts(4)
    sampled = ask(request.getfixturevalue(engine), prompts, n=4, length=12)
    assert [item.key for item in sampled] == [prompt.key for prompt in prompts]
    for number, item in enumerate(sampled):
        assert [response.index for response in item.responses] == [0, 1, 2, 3]
        assert [response.seed for response in item.responses] == [1000 * number + index for index in range(4)]
        for response in item.responses:
            assert not banned & set(response.token_ids)
            ended = response.token_ids[-1] in ends
            assert response.finish_reason == ("stop" if ended else "length")
            assert ended or len(response.token_ids) == 12
            assert not ends & set(response.token_ids[:-1])
            assert "<|im_end|>" not in response.text


def test_a_response_depends_on_its_own_seed(vllm: Sampler) -> None:
    # response 1 of seed 0 is response 0 of seed 1
    (prompt,) = make_prompts(1)
    both = vllm.sample(POLICY, [prompt], n=2, seeds=[0], temperature=1.0, max_completion_length=8)[0].responses
    alone = vllm.sample(POLICY, [prompt], n=1, seeds=[1], temperature=1.0, max_completion_length=8)[0].responses
    assert both[1].token_ids == alone[0].token_ids
    assert both[1].seed == alone[0].seed == 1


def test_greedy_tokens_of_both_engines_are_equal(vllm: Sampler, transformers: Sampler) -> None:
    prompts = make_prompts(4)
    answers = [ask(engine, prompts, n=1, temperature=0.0) for engine in (vllm, transformers)]
    texts = [[item.responses[0].token_ids for item in answer] for answer in answers]
    assert texts[0] == texts[1]


def test_bad_requests_are_refused_before_the_engine_starts() -> None:
    sampler = make_sampler(GenerationSettings(max_model_len=64))
    (prompt,) = make_prompts(1)
    asked = {"n": 1, "seeds": [0], "temperature": 1.0, "max_completion_length": 32}
    with pytest.raises(ValueError, match="prompt q0: .* do not fit into max_model_len = 64"):
        sampler.sample(POLICY, [prompt], **asked)
    with pytest.raises(ValueError, match="seeds: 2 for 1 prompts"):
        sampler.sample(POLICY, [prompt], **(asked | {"seeds": [0, 1]}))
    with pytest.raises(ValueError, match="'q0'.* more than once"):
        sampler.sample(POLICY, [prompt, prompt], **(asked | {"seeds": [0, 1]}))
    with pytest.raises(ValueError, match="greedy"):
        sampler.sample(POLICY, [prompt], **(asked | {"n": 2, "temperature": 0.0}))
    assert sampler.startup_seconds == 0.0


def test_a_fresh_process_samples_the_same_and_prints_nothing_of_its_own(vllm: Sampler) -> None:
    prompts = make_prompts(2)
    here = [list(response.token_ids) for item in ask(vllm, prompts) for response in item.responses]
    program = f"""
import json, os, runpy
tests = runpy.run_path({str(Path(__file__))!r})
tests["load_processor"](tests["POLICY"])  # importing transformers sets a few variables of its own
before = dict(os.environ)
sampler = tests["make_sampler"](tests["GenerationSettings"]())
sampled = tests["ask"](sampler, tests["make_prompts"](2))
assert dict(os.environ) == before
assert sampler.startup_seconds > 0 and {{"vllm", "torch", "transformers"}} <= sampler.versions.keys()
sampler.close()
print(json.dumps([response.token_ids for item in sampled for response in item.responses]))
"""
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert (child.returncode, child.stderr) == (0, "")
    assert json.loads(child.stdout) == here
