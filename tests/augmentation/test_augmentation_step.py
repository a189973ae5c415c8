"""The augmentation step, with scripted responses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.augmentation.settings import AugmentationSettings
from components.augmentation.step import augment
from components.shared.dataset import MASK_COLOUR, DatasetReader
from components.shared.groups import groups_to_parquet
from components.shared.ledger import Outputs
from components.shared.rewards import RewardSettings
from components.shared.sampling import artifacts
from components.shared.sampling.settings import SamplingSettings
from components.shared.schemas import ArtifactRef, Augmentation, Difficulty
from tests.round_fixtures import RIGHT, WRONG, Round, ScriptedSampler, begin_round, sample

SAMPLING = SamplingSettings(num_generations=4, max_completion_length=200, chunk_prompts=2)
DELTAS = {"s003": 0.4, "s000": -0.4, "s002": 0.0, "s001": 0.2, "s004": 0.5}  # in the round's order


def explain(prompt, seed: int) -> str:
    assert prompt.given_answer == "B. green"
    return WRONG if prompt.key == "s004" else RIGHT


@pytest.fixture
def begun(tmp_path: Path) -> Round:
    return begin_round(tmp_path, [sample(i) for i in range(5)])


def difficulty(begun: Round) -> ArtifactRef:
    rows = [Difficulty(sample_id=k, mean_reward=0.5, delta=v, all_equal=False) for k, v in DELTAS.items()]
    files = {artifacts.DIFFICULTY: artifacts.to_lines(rows), artifacts.GROUPS: groups_to_parquet([])}
    return artifacts.put_files(begun.context.open_store(), "difficulty", files)


def run(begun: Round, sampler: ScriptedSampler, state: ArtifactRef | None = None, **settings: object) -> Outputs:
    return augment(
        begun.dataset,
        begun.policy,
        difficulty(begun),
        state or begun.state,
        AugmentationSettings.model_validate(
            {"augment_deadband": 0.1, "hint_offset": 0.4, "hint_slope": 1, "noise_offset": 10, "noise_slope": 50}
            | settings
        ),
        sampler,
        begun.context,
        sampling=SAMPLING,
        rewards=RewardSettings(),
    )


def augmentations(begun: Round, outputs: Outputs) -> dict[str, Augmentation]:
    folder = begun.context.open_store().get(outputs.artifacts["augmentation"])
    return {row.sample_id: row.augmentation for row in artifacts.read_augmentation(folder)}


def test_hard_samples_get_hints_easy_ones_noise_and_all_keep_their_order(begun: Round) -> None:
    sampler = ScriptedSampler(explain)
    outputs = run(begun, sampler)
    found = augmentations(begun, outputs)
    assert list(found) == list(DELTAS)
    assert {name: item.kind for name, item in found.items()} == {
        "s003": "hint", "s000": "noise", "s002": "none", "s001": "hint", "s004": "none",
    }  # fmt: skip
    assert {name: item.delta for name, item in found.items()} == DELTAS
    # the reasoning has 41 bytes, one token each: 0.8 are 32, up to "it "; 0.6 are 24, up to "not "
    assert found["s003"].hint == "look at the square. not red. it" and found["s003"].level == pytest.approx(0.8)
    assert found["s001"].hint == "look at the square. not" and found["s001"].level == pytest.approx(0.6)
    assert found["s004"].reason == "no response right"
    assert outputs.results["not_augmented_reasons"] == {"no response right": 1}
    assert outputs.results["augmented/hint"] == 2 and outputs.results["augmented/none"] == 2
    assert sampler.calls == [["s003", "s001"], ["s004"]]


def test_noised_frames_are_made_again_from_the_record(begun: Round) -> None:
    outputs = run(begun, ScriptedSampler(explain))
    record = augmentations(begun, outputs)["s000"]
    assert record.level == pytest.approx(30)  # 10 + 50 * 0.4
    reader = DatasetReader(begun.context.open_store().get(begun.dataset))
    noised = reader.augmented_frames(reader.sample("s000"), record)
    change = noised.astype(float) - reader.frames("v000")
    middle = np.abs(reader.frames("v000").astype(int) - 128) < 30  # where nothing is clipped but beyond 3 sigma
    assert change[middle].std() == pytest.approx(30, rel=0.1)
    with pytest.raises(ValueError, match="s000: noised frames differ"):
        reader.augmented_frames(reader.sample("s000"), record.model_copy(update={"noise_seed": 1}))


def videos(frames: int) -> list[np.ndarray]:
    return list(np.random.default_rng(1).integers(0, 256, (5, frames, 28, 28, 3), dtype=np.uint8))


MASK = {"frame_augmentation": "mask", "mask_offset": 0.1, "mask_slope": 1.0, "mask_max": 0.6}


def test_masked_frames_are_made_again_from_the_record(tmp_path: Path) -> None:
    begun = begin_round(tmp_path, [sample(i) for i in range(5)], videos(8))
    outputs = run(begun, ScriptedSampler(explain), **MASK)
    record = augmentations(begun, outputs)["s000"]
    assert record.kind == "mask" and record.delta == -0.4 and record.level == pytest.approx(0.5)  # 0.1 + 0.4
    reader = DatasetReader(begun.context.open_store().get(begun.dataset))
    plain, masked = reader.frames("v000"), reader.augmented_frames(reader.sample("s000"), record)
    changed = [i for i in range(8) if not np.array_equal(plain[i], masked[i])]
    assert tuple(changed) == record.masked_frames and len(changed) == 4  # half of four patches
    assert (masked[changed] == MASK_COLOUR).all()
    with pytest.raises(ValueError, match="s000: masked frames differ"):
        reader.augmented_frames(reader.sample("s000"), record.model_copy(update={"masked_frames": (0, 1)}))
    results = outputs.results
    assert results["augmented/mask"] == 1 and results["augmented/noise"] == 0 and results["augmented/hint"] == 2
    assert results["augmented/mask_fraction_mean"] == pytest.approx(0.5)
    assert results["augmented/masked_frames_mean"] == 4


def test_masks_are_drawn_from_seed_round_and_sample(tmp_path: Path) -> None:
    def draw(folder: str, **context: object) -> tuple[int, ...]:
        begun = begin_round(tmp_path / folder, [sample(i) for i in range(5)], videos(24))
        begun = replace(begun, context=begun.context.model_copy(update=context))
        return augmentations(begun, run(begun, ScriptedSampler(explain), **MASK))["s000"].masked_frames

    first = draw("first")
    assert draw("again", run_name="another") == first
    assert len({first, draw("seed", seed=4), draw("round", round=2)}) == 3


def test_a_video_of_one_temporal_patch_is_not_masked(begun: Round) -> None:
    outputs = run(begun, ScriptedSampler(explain), **MASK)
    assert augmentations(begun, outputs)["s000"] == Augmentation(delta=-0.4, reason="too short to mask")
    assert outputs.results["not_augmented_reasons"] == {"no response right": 1, "too short to mask": 1}


def test_each_side_alone_leaves_the_other_as_it_is(begun: Round) -> None:
    sampler = ScriptedSampler(explain)
    found = augmentations(begun, run(begun, sampler, augment_mode="harder_only"))
    assert {item.kind for item in found.values()} == {"none", "noise"} and sampler.calls == []
    found = augmentations(begun, run(begun, sampler, augment_mode="easier_only"))
    assert {item.kind for item in found.values()} == {"none", "hint"}


def test_a_level_of_zero_leaves_a_sample_as_it_is_and_says_so(begun: Round) -> None:
    found = augmentations(begun, run(begun, ScriptedSampler(explain), noise_offset=0, noise_slope=0))
    assert found["s000"].kind == "none" and found["s000"].reason == "noise level 0"
    found = augmentations(begun, run(begun, ScriptedSampler(explain), **MASK | {"mask_max": 0}))
    assert found["s000"].kind == "none" and found["s000"].reason == "mask level 0"


def test_after_a_stop_nothing_is_augmented(begun: Round) -> None:
    stopped = begun.state.model_copy(update={"metadata": {"stop_reason": "patience"}})
    sampler = ScriptedSampler(explain)
    outputs = run(begun, sampler, state=stopped)
    assert augmentations(begun, outputs) == {} and outputs.results == {"skipped": "patience"} and sampler.calls == []
