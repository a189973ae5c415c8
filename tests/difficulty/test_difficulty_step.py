"""The difficulty step, with scripted responses."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.difficulty.selection import round_ids
from components.difficulty.settings import DifficultySettings
from components.difficulty.step import estimate_difficulty
from components.shared.ledger import Outputs
from components.shared.rewards import RewardSettings
from components.shared.sampling import artifacts
from components.shared.sampling.settings import SamplingSettings
from components.shared.schemas import ArtifactRef
from tests.round_fixtures import RIGHT, WRONG, Round, ScriptedSampler, begin_round, sample

SAMPLING = SamplingSettings(num_generations=4, max_completion_length=200, chunk_prompts=4)
# 4 + 4 training samples: the first are always answered right, the others wrong; well formed both
EASY = {f"s{i:03d}" for i in range(4)}


def scripted() -> ScriptedSampler:
    return ScriptedSampler(lambda prompt, seed: RIGHT if prompt.key in EASY else WRONG)


@pytest.fixture
def begun(tmp_path: Path) -> Round:
    return begin_round(tmp_path, [*(sample(i) for i in range(8)), sample(8, split="L1")])


def estimate(
    begun: Round, sampler: ScriptedSampler, *, buffer: ArtifactRef | None = None, state: ArtifactRef | None = None,
    rewards: RewardSettings | None = None, round_index: int = 1, **settings: object,
) -> Outputs:  # fmt: skip
    return estimate_difficulty(
        begun.dataset,
        begun.policy,
        buffer or begun.buffer,
        state or begun.state,
        DifficultySettings.model_validate({"prompts_per_round": 8, "replay_window": 10, **settings}),
        sampler,
        begun.context.model_copy(update={"round": round_index}),
        sampling=SAMPLING,
        rewards=rewards or RewardSettings(),
    )


def read(begun: Round, outputs: Outputs, name: str) -> Path:
    return begun.context.open_store().get(outputs.artifacts[name])


def test_difficulty_and_groups_come_in_the_rounds_order(begun: Round) -> None:
    outputs = estimate(begun, scripted())
    folder = read(begun, outputs, "difficulty")
    order = round_ids([f"s{i:03d}" for i in range(8)], 3, 1, 8)
    rows = artifacts.read_difficulty(folder)
    assert [row.sample_id for row in rows] == order
    assert [group.sample_id for group in artifacts.read_groups(folder)] == order
    for row in rows:
        # right: (1 + 1) / 2, wrong but well formed: (1 + 0) / 2; the round's mean is 0.75
        assert row.mean_reward == (1.0 if row.sample_id in EASY else 0.5)
        assert row.delta == (-0.25 if row.sample_id in EASY else 0.25)
        assert row.all_equal
    assert outputs.results["difficulty/reference"] == 0.75
    assert outputs.results["difficulty/hard"] == outputs.results["difficulty/easy"] == 4
    assert outputs.results["frac_reward_zero_std"] == 1.0
    assert outputs.results["accuracy_rate"] == 0.5 and outputs.results["format_rate"] == 1.0
    assert sum(outputs.results["difficulty_histogram"]["counts"]) == 8  # type: ignore[index]


def test_the_buffer_is_frozen_during_a_round_and_rolls_over_rounds(begun: Round) -> None:
    first = estimate(begun, scripted())
    entries = artifacts.read_buffer(read(begun, first, "buffer"))
    assert [entry.mean_reward for entry in entries] == [
        row.mean_reward for row in artifacts.read_difficulty(read(begun, first, "difficulty"))
    ]
    second = estimate(begun, ScriptedSampler(lambda *_: RIGHT), buffer=first.artifacts["buffer"], round_index=2)
    rows = artifacts.read_difficulty(read(begun, second, "difficulty"))
    assert {row.delta for row in rows} == {-0.25}  # all against the 0.75 of round 1, whatever came before in round 2
    kept = artifacts.read_buffer(read(begun, second, "buffer"))
    assert [entry.round for entry in kept] == [1] * 2 + [2] * 8


def test_absolute_difficulty_asks_the_constant_and_leaves_the_buffer_to_roll(begun: Round) -> None:
    first = estimate(begun, scripted(), difficulty_reference="absolute", absolute_reference=0.625)
    second = estimate(
        begun, scripted(), buffer=first.artifacts["buffer"], round_index=2,
        difficulty_reference="absolute", absolute_reference=0.25,
    )  # fmt: skip
    for outputs, deltas in ((first, (-0.375, 0.125)), (second, (-0.75, -0.25))):
        for row in artifacts.read_difficulty(read(begun, outputs, "difficulty")):
            assert row.delta == (deltas[0] if row.sample_id in EASY else deltas[1])
    assert first.results["difficulty/reference"] == 0.625
    assert len(artifacts.read_buffer(read(begun, second, "buffer"))) == 10


def test_finished_work_is_found_without_the_engine(begun: Round) -> None:
    first = estimate(begun, scripted())
    again = scripted()
    assert estimate(begun, again) == first
    assert again.calls == []


@pytest.mark.parametrize("change", ["prompts_per_round", "round", "rewards", "engine"])
def test_what_the_result_depends_on_is_part_of_the_key(begun: Round, change: str) -> None:
    estimate(begun, scripted())
    again = scripted()
    if change == "prompts_per_round":
        estimate(begun, again, prompts_per_round=7)
    elif change == "round":
        estimate(begun, again, round_index=2)
    elif change == "rewards":
        estimate(begun, again, rewards=RewardSettings(reward_funcs=("accuracy",)))
    else:
        again.settings = again.settings.model_copy(update={"dtype": "bfloat16"})
        estimate(begun, again)
    assert again.calls


@pytest.mark.parametrize(
    ("settings", "rewards", "message"),
    [
        ({}, RewardSettings(reward_funcs=("nowhere:reward",)), "cannot import 'nowhere'"),
        ({}, RewardSettings(reward_funcs=("iou",)), "none of .* gives sample .* any reward"),
    ],
)
def test_bad_input_stops_the_step_before_it_samples(
    begun: Round, settings: dict[str, object], rewards: RewardSettings, message: str
) -> None:
    sampler = scripted()
    with pytest.raises(ValueError, match=message):
        estimate(begun, sampler, rewards=rewards, **settings)
    assert sampler.calls == []


def test_after_a_stop_the_buffer_is_handed_on_unchanged(begun: Round) -> None:
    stopped = begun.state.model_copy(update={"metadata": {"stop_reason": "kl above 1"}})
    sampler = scripted()
    outputs = estimate(begun, sampler, state=stopped)
    assert outputs.artifacts["buffer"] == begun.buffer and outputs.results == {"skipped": "kl above 1"}
    assert artifacts.read_difficulty(read(begun, outputs, "difficulty")) == [] and sampler.calls == []
