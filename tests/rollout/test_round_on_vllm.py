"""The three sampling steps of a round on the real engine with the tiny model that comes with the project."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

import components.ingest.tiny_model
from components.augmentation.leaks import first_leak
from components.augmentation.settings import AugmentationSettings
from components.augmentation.step import augment
from components.difficulty.settings import DifficultySettings
from components.difficulty.step import estimate_difficulty
from components.ingest.moving_shapes.drawing import draw
from components.ingest.moving_shapes.questions import ask
from components.ingest.moving_shapes.scenes import random_scene
from components.rollout.settings import RolloutSettings
from components.rollout.step import roll_out
from components.shared.dataset import DatasetReader
from components.shared.generation import GenerationSettings, make_sampler
from components.shared.rewards import RewardSettings
from components.shared.sampling import artifacts
from components.shared.sampling.settings import SamplingSettings
from components.shared.sampling.tokens import load_tokenizer
from components.shared.schemas import Sample
from tests.round_fixtures import begin_round

WEIGHTS = Path(components.ingest.tiny_model.__file__).parent / "weights"
VIDEO_TOKENS = 16  # 8 frames of 56 x 56: 4 temporal patches of 2 x 2 tokens
SECONDS = np.arange(8) + 0.5


def shapes(count: int) -> tuple[list[Sample], list[np.ndarray]]:
    """Questions about a video each, and the videos' frames, one a second."""
    rng = np.random.default_rng(0)
    scenes = [random_scene(rng) for _ in range(count)]
    samples = [ask(scene, 1, rng)[0].sample(f"s{i}", f"v{i}", "train") for i, scene in enumerate(scenes)]
    return samples, [draw(scene, SECONDS, 56) for scene in scenes]


def test_a_round_samples_explains_and_samples_again(tmp_path: Path) -> None:
    samples, videos = shapes(12)
    begun = begin_round(tmp_path, samples, videos=videos)
    store = begun.context.open_store()
    policy = store.put(Path(shutil.copytree(WEIGHTS, tmp_path / "policy")), "policy")
    sampler = make_sampler(GenerationSettings(max_model_len=512))
    common = {
        "sampling": SamplingSettings(num_generations=4, max_completion_length=64, chunk_prompts=8),
        "rewards": RewardSettings(),
    }
    difficulty = estimate_difficulty(
        begun.dataset,
        policy,
        begun.buffer,
        begun.state,
        DifficultySettings(prompts_per_round=12),
        sampler,
        begun.context,
        **common,
    )
    hard_and_easy = AugmentationSettings(augment_deadband=0.0)
    augmentation = augment(
        begun.dataset,
        policy,
        difficulty.artifacts["difficulty"],
        begun.state,
        hard_and_easy,
        sampler,
        begun.context,
        **common,
    )
    rollout = roll_out(
        begun.dataset, policy, difficulty.artifacts["difficulty"], augmentation.artifacts["augmentation"], begun.state,
        RolloutSettings(), sampler, begun.context, **common,
    )  # fmt: skip
    sampler.close()

    groups = artifacts.read_groups(store.get(rollout.artifacts["groups"]))
    before = artifacts.read_groups(store.get(difficulty.artifacts["difficulty"]))
    assert [g.sample_id for g in groups] == [g.sample_id for g in before] and len(groups) == 12
    assert {g.augmentation.kind for g in groups} >= {"hint", "noise"}
    pad = load_tokenizer(WEIGHTS).token_to_id("<|video_pad|>")
    reader = DatasetReader(store.get(begun.dataset))
    for plain, group in zip(before, groups, strict=True):
        assert group.prompt_token_ids.count(pad) == VIDEO_TOKENS
        assert len(group.responses) == 4
        assert first_leak(group.augmentation.hint, reader.sample(group.sample_id)) is None
        # a hint is in the prompt; noise is in the pixels alone
        assert (group.prompt_token_ids != plain.prompt_token_ids) is (group.augmentation.kind == "hint")
        assert (group.responses == plain.responses) is (group.augmentation.kind == "none")
    assert difficulty.startup_seconds > 0 and rollout.startup_seconds == 0  # one engine for all three
