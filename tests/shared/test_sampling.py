"""Sampling in chunks: order, seeds, resuming, and what a sampler may not give back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from components.shared.context import derived_seed
from components.shared.dataset import DatasetReader
from components.shared.generation import Sampled
from components.shared.rewards import RewardSettings
from components.shared.sampling.groups import Request, Sampling, sample_groups
from components.shared.sampling.metrics import completion_metrics, reward_metrics
from components.shared.sampling.settings import SamplingSettings
from components.shared.sampling.tokens import banned_among, load_tokenizer
from components.shared.schemas import Augmentation, Group, Response
from tests.round_fixtures import MALFORMED, RIGHT, WRONG, ScriptedSampler, begin_round, sample, tokenizer

SETTINGS = SamplingSettings(num_generations=3, max_completion_length=200, chunk_prompts=2)


@pytest.fixture
def sampling(tmp_path: Path) -> Sampling:
    begun = begin_round(tmp_path, [sample(i) for i in range(5)])
    return Sampling(
        context=begun.context,
        ledger=begun.context.open_ledger(),
        key="test-key",
        policy=begun.policy,
        reader=DatasetReader(begun.context.open_store().get(begun.dataset)),
        sampler=ScriptedSampler(lambda prompt, seed: (RIGHT, WRONG, MALFORMED)[seed % 3]),
        settings=SETTINGS,
        rewards=RewardSettings(),
    )


def groups_of(sampling: Sampling, **options: object) -> list[Group]:
    requests = [Request(item) for item in reversed(sampling.reader.samples())]
    return sample_groups(sampling, requests, purpose="test", label="Sampling", **options)  # type: ignore[arg-type]


def test_groups_come_in_the_requests_order_with_scores_and_seeds_of_their_own(sampling: Sampling) -> None:
    groups = groups_of(sampling)
    assert [group.sample_id for group in groups] == ["s004", "s003", "s002", "s001", "s000"]
    assert sampling.sampler.calls == [["s004", "s003"], ["s002", "s001"], ["s000"]]  # type: ignore[attr-defined]
    for group in groups:
        first = derived_seed(3, 1, group.sample_id, "test")
        assert [response.seed for response in group.responses] == [first, first + 1, first + 2]
        for response in group.responses:
            expected = {RIGHT: (1.0, 1.0), WRONG: (1.0, 0.0), MALFORMED: (0.0, 0.0)}[response.text]
            assert response.rewards == dict(zip(("format", "accuracy"), expected, strict=True))
            assert response.reward == sum(expected)


def test_a_killed_step_asks_only_for_what_is_missing_and_ends_the_same(sampling: Sampling) -> None:
    calls = 0

    def dies(prompt: object, seed: int) -> str:
        nonlocal calls
        calls += 1
        if calls > 8:
            raise KeyboardInterrupt
        return (RIGHT, WRONG, MALFORMED)[seed % 3]

    with pytest.raises(KeyboardInterrupt):
        groups_of(replace(sampling, sampler=ScriptedSampler(dies)))
    resumed = groups_of(sampling)
    assert sampling.sampler.calls == [["s002", "s001"], ["s000"]]  # type: ignore[attr-defined]
    assert resumed == groups_of(replace(sampling, key="other-key"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: replace(s, key="s999"), "sample s004: the sampler answered prompt 's999'"),
        (lambda s: replace(s, prompt_token_ids=()), "sample s004: the sampler reports no prompt token ids"),
        (lambda s: replace(s, responses=s.responses[:2]), "sample s004: 2 responses instead of 3"),
        (
            lambda s: replace(s, responses=tuple(map(with_pad, s.responses))),
            r"sample s004: token ids \[256\] .* banned",
        ),
    ],
)
def test_a_sampler_that_gives_back_something_else_is_refused(sampling: Sampling, change, message: str) -> None:
    class Wrong(ScriptedSampler):
        def sample(self, *arguments, **options) -> list[Sampled]:
            return [change(sampled) for sampled in super().sample(*arguments, **options)]

    with pytest.raises(ValueError, match=message):
        groups_of(replace(sampling, sampler=Wrong(lambda prompt, seed: RIGHT)))


def with_pad(response: Response) -> Response:
    pad = tokenizer().token_to_id("<|image_pad|>")
    return response.model_copy(update={"token_ids": (*response.token_ids[:-1], pad)})


def test_banned_are_vision_tokens_and_what_the_tokenizer_does_not_know(tmp_path: Path) -> None:
    made = tokenizer()
    assert banned_among(made, [0, 1, made.token_to_id("<|video_pad|>"), 10_000]) == [257, 10_000]
    with pytest.raises(ValueError, match="tokenizer.json is missing"):
        load_tokenizer(tmp_path)


def group(rewards: list[float], lengths: list[int], stops: list[bool]) -> Group:
    responses = tuple(
        Response(
            index=i, seed=i, token_ids=(1,) * length, text="", logprobs=(0.0,) * length,
            finish_reason="stop" if stop else "length", rewards={"format": reward}, reward=reward,
        )
        for i, (reward, length, stop) in enumerate(zip(rewards, lengths, stops, strict=True))
    )  # fmt: skip
    return Group(sample_id="s", round=1, augmentation=Augmentation(), prompt_token_ids=(1, 2), responses=responses)


def test_metrics_are_trls() -> None:
    groups = [group([0, 1], [3, 5], [True, True]), group([1, 1], [4, 8], [True, False])]
    # by hand: stds 0.7071 and 0; of all four rewards 0.5 with n - 1
    assert reward_metrics(groups) == pytest.approx(
        {"reward": 0.75, "reward_std": 0.5**0.5 / 2, "frac_reward_zero_std": 0.5, "rewards/format/mean": 0.75,
         "rewards/format/std": 0.5}
    )  # fmt: skip
    assert completion_metrics(groups) == pytest.approx(
        {
            "num_tokens": 2 * 4 + 20, "completions/mean_length": 5, "completions/min_length": 3,
            "completions/max_length": 8, "completions/clipped_ratio": 0.25, "completions/mean_terminated_length": 4,
            "completions/min_terminated_length": 3, "completions/max_terminated_length": 5,
        }
    )  # fmt: skip
    assert reward_metrics([]) == completion_metrics([]) == {}
