"""The rollout step, with scripted responses, behind the two steps that it follows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.augmentation.settings import AugmentationSettings
from components.augmentation.step import augment
from components.difficulty.settings import DifficultySettings
from components.difficulty.step import estimate_difficulty
from components.rollout.settings import RolloutSettings
from components.rollout.step import roll_out
from components.shared.dataset import DatasetReader
from components.shared.groups import all_equal
from components.shared.ledger import Outputs
from components.shared.rewards import RewardSettings
from components.shared.sampling import artifacts
from components.shared.sampling.settings import SamplingSettings
from components.shared.schemas import ArtifactRef, Augmentation, Group
from components.training.prepare import group_prompt
from tests.round_fixtures import RIGHT, WRONG, Round, ScriptedSampler, begin_round, sample

SAMPLING = SamplingSettings(num_generations=4, max_completion_length=200, chunk_prompts=2)
COMMON = {"sampling": SAMPLING, "rewards": RewardSettings()}


def answer(prompt, seed: int) -> str:
    """s000, s001 too easy, s002, s003 too hard, s004, s005 in between; augmented, all are in between."""
    number = int(prompt.key[1:])
    if prompt.given_answer:
        return RIGHT
    if prompt.hint or number >= 4 or noised(prompt):
        return RIGHT if seed % 2 else WRONG
    return RIGHT if number < 2 else WRONG


plain_frames: dict[str, bytes] = {}


def noised(prompt) -> bool:
    return plain_frames.setdefault(prompt.key, prompt.frames.tobytes()) != prompt.frames.tobytes()


@pytest.fixture
def begun(tmp_path: Path) -> Round:
    plain_frames.clear()
    return begin_round(tmp_path, [sample(i) for i in range(6)])


@pytest.fixture
def estimated(begun: Round) -> ArtifactRef:
    settings = DifficultySettings(prompts_per_round=6)
    return estimate_difficulty(
        begun.dataset,
        begun.policy,
        begun.buffer,
        begun.state,
        settings,
        ScriptedSampler(answer),
        begun.context,
        **COMMON,
    ).artifacts["difficulty"]


@pytest.fixture
def augmented(begun: Round, estimated: ArtifactRef) -> ArtifactRef:
    settings = AugmentationSettings(augment_deadband=0.1)
    return augment(
        begun.dataset, begun.policy, estimated, begun.state, settings, ScriptedSampler(answer), begun.context, **COMMON
    ).artifacts["augmentation"]


def run(
    begun: Round,
    estimated: ArtifactRef,
    augmented: ArtifactRef,
    sampler: ScriptedSampler,
    state: ArtifactRef | None = None,
    **settings: bool,
) -> Outputs:
    return roll_out(
        begun.dataset, begun.policy, estimated, augmented, state or begun.state, RolloutSettings(**settings), sampler,
        begun.context, **COMMON,
    )  # fmt: skip


def read(begun: Round, outputs: Outputs) -> list[Group]:
    return artifacts.read_groups(begun.context.open_store().get(outputs.artifacts["groups"]))


def test_only_augmented_samples_are_sampled_again(begun: Round, estimated: ArtifactRef, augmented: ArtifactRef) -> None:
    sampler = ScriptedSampler(answer)
    outputs = run(begun, estimated, augmented, sampler)
    groups = read(begun, outputs)
    assert outputs.artifacts["groups"].metadata == {"groups": 6, "policy": begun.policy.digest}
    rows = artifacts.read_augmentation(begun.context.open_store().get(augmented))
    before = {g.sample_id: g for g in artifacts.read_groups(begun.context.open_store().get(estimated))}
    assert [group.sample_id for group in groups] == [row.sample_id for row in rows]
    assert [group.augmentation for group in groups] == [row.augmentation for row in rows]
    assert {g.sample_id: g.augmentation.kind for g in groups} == {
        "s000": "noise", "s001": "noise", "s002": "hint", "s003": "hint", "s004": "none", "s005": "none",
    }  # fmt: skip
    assert sorted(key for call in sampler.calls for key in call) == ["s000", "s001", "s002", "s003"]
    for group in groups:
        reused = group.augmentation.kind == "none"
        assert (group.responses == before[group.sample_id].responses) is reused


def test_results_pair_every_augmented_sample_with_itself(
    begun: Round, estimated: ArtifactRef, augmented: ArtifactRef
) -> None:
    results = run(begun, estimated, augmented, ScriptedSampler(answer)).results
    pairs = results["paired_all_equal"]
    assert len(pairs) == 4  # type: ignore[arg-type]
    assert all(pair["before"] and not pair["after"] for pair in pairs)  # type: ignore[attr-defined]
    assert results["frac_reward_zero_std_unaugmented"] == pytest.approx(4 / 6)
    assert results["frac_reward_zero_std"] == 0.0
    assert (results["groups/hint"], results["groups/noise"], results["groups/none"]) == (2, 2, 2)
    assert results["hint/reward_before"] == 1.0 and results["hint/reward_after"] == 1.5
    assert results["noise/reward_before"] == 2.0 and results["noise/reward_after"] == 1.5
    examples = results["examples"]
    assert sorted(item["augmentation"]["kind"] for item in examples) == [  # type: ignore[attr-defined]
        "hint", "hint", "noise", "noise", "none", "none",
    ]  # fmt: skip


def test_masked_frames_are_those_that_sampler_and_trainer_see(tmp_path: Path) -> None:
    plain_frames.clear()
    clips = list(np.random.default_rng(2).integers(0, 256, (6, 20, 28, 28, 3), dtype=np.uint8))
    begun = begin_round(tmp_path, [sample(i) for i in range(6)], clips)
    both = begun.dataset, begun.policy
    sampler = ScriptedSampler(answer)
    settings = AugmentationSettings(frame_augmentation="mask", level_schedule="fixed", fixed_mask_fraction=0.7)
    estimated = estimate_difficulty(
        *both, begun.buffer, begun.state, DifficultySettings(), sampler, begun.context, **COMMON
    ).artifacts["difficulty"]
    augmented = augment(*both, estimated, begun.state, settings, sampler, begun.context, **COMMON).artifacts[
        "augmentation"
    ]
    sampler = ScriptedSampler(answer)
    outputs = run(begun, estimated, augmented, sampler)
    seen = {prompt.key: prompt.frames for prompt in sampler.prompts}
    reader = DatasetReader(begun.context.open_store().get(begun.dataset))
    masked = [group for group in read(begun, outputs) if group.augmentation.kind == "mask"]
    assert {group.sample_id for group in masked} == {"s000", "s001"}
    assert len({group.augmentation.masked_frames for group in masked}) == 2  # a draw a sample
    for group in masked:
        assert len(group.augmentation.masked_frames) == 14  # 0.7 of ten patches, of two frames each
        changed = (seen[group.sample_id] != reader.frames(reader.sample(group.sample_id).video)).any((1, 2, 3))
        assert tuple(np.flatnonzero(changed)) == group.augmentation.masked_frames
        assert np.array_equal(group_prompt(group, reader).frames, seen[group.sample_id])
    assert outputs.results["groups/mask"] == 2 and outputs.results["groups/noise"] == 0
    assert outputs.results["mask/reward_before"] == 2.0 and outputs.results["mask/reward_after"] == 1.5
    kinds = [item["augmentation"]["kind"] for item in outputs.results["examples"]]  # type: ignore[attr-defined]
    assert sorted(kinds) == ["hint", "hint", "mask", "mask", "none", "none"]


def test_frames_that_differ_from_the_recorded_ones_are_refused(begun: Round, estimated: ArtifactRef) -> None:
    before = artifacts.read_groups(begun.context.open_store().get(estimated))
    forged = {
        "noise": Augmentation(kind="noise", level=5, noise_seed=1, frames_digest="0"),
        "mask": Augmentation(kind="mask", level=0.5, masked_frames=(0, 1), frames_digest="0"),
    }
    for kind, augmentation in forged.items():
        rows = [artifacts.AugmentedSample(sample_id=g.sample_id, augmentation=augmentation) for g in before]
        files = {artifacts.AUGMENTATION: artifacts.to_lines(rows)}
        other = artifacts.put_files(begun.context.open_store(), "augmentation", files)
        with pytest.raises(ValueError, match=f"{kind}e?d frames differ"):
            run(begun, estimated, other, ScriptedSampler(answer))


def test_mixing_adds_the_original_before_the_augmented_group(
    begun: Round, estimated: ArtifactRef, augmented: ArtifactRef
) -> None:
    groups = read(begun, run(begun, estimated, augmented, ScriptedSampler(answer), mix_original=True))
    assert len(groups) == 6 + 4
    for first, second in zip(groups, groups[1:], strict=False):
        if second.augmentation.kind != "none":
            assert first.sample_id == second.sample_id and first.augmentation == Augmentation()


def test_permuted_rewards_keep_each_groups_rewards_but_not_whose_they_are(
    begun: Round, estimated: ArtifactRef, augmented: ArtifactRef
) -> None:
    plain = read(begun, run(begun, estimated, augmented, ScriptedSampler(answer)))
    permuted = read(begun, run(begun, estimated, augmented, ScriptedSampler(answer), permute_rewards=True))
    again = read(begun, run(begun, estimated, augmented, ScriptedSampler(answer), permute_rewards=True))
    assert permuted == again
    for one, other in zip(plain, permuted, strict=True):
        assert sorted(r.reward for r in one.responses) == sorted(r.reward for r in other.responses)
        assert [r.text for r in one.responses] == [r.text for r in other.responses]
        assert all(sum(r.rewards.values()) == r.reward for r in other.responses)
        assert not all_equal(r.reward for r in other.responses)
    assert [g.responses for g in plain] != [g.responses for g in permuted]


def test_inputs_of_different_rounds_are_refused(begun: Round, estimated: ArtifactRef) -> None:
    row = artifacts.AugmentedSample(sample_id="s000", augmentation=Augmentation())
    files = {artifacts.AUGMENTATION: artifacts.to_lines([row])}
    other = artifacts.put_files(begun.context.open_store(), "augmentation", files)
    with pytest.raises(ValueError, match="of different rounds"):
        run(begun, estimated, other, ScriptedSampler(answer))


def test_after_a_stop_there_are_no_groups_to_train_on(
    begun: Round, estimated: ArtifactRef, augmented: ArtifactRef
) -> None:
    stopped = begun.state.model_copy(update={"metadata": {"stop_reason": "kl above 1"}})
    sampler = ScriptedSampler(answer)
    outputs = run(begun, estimated, augmented, sampler, state=stopped)
    assert read(begun, outputs) == [] and outputs.results == {"skipped": "kl above 1"} and sampler.calls == []
    assert outputs.artifacts["groups"].metadata["skipped"] == "kl above 1"
