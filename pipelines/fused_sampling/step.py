"""The three sampling steps on one engine."""

from __future__ import annotations

from kfp import dsl

from components.augmentation.settings import AugmentationSettings
from components.augmentation.step import augment
from components.difficulty.settings import DifficultySettings
from components.difficulty.step import estimate_difficulty
from components.rollout.settings import RolloutSettings
from components.rollout.step import roll_out
from components.shared.face import SamplingFace
from components.shared.ledger import Outputs


def sample_round(
    face: SamplingFace, dataset: dsl.Artifact, policy: dsl.Artifact, buffer: dsl.Artifact, state: dsl.Artifact
) -> dict[str, Outputs]:
    """What the three steps put out, by step, exactly as if each ran in a task of its own."""
    data, model, training = face.ref(dataset), face.ref(policy), face.ref(state)
    estimated = estimate_difficulty(
        data,
        model,
        face.ref(buffer),
        training,
        face.settings("difficulty", DifficultySettings),
        face.sampler,
        face.context,
        sampling=face.sampling,
        rewards=face.rewards,
    )
    hardness = estimated.artifacts["difficulty"]
    augmented = augment(
        data,
        model,
        hardness,
        training,
        face.settings("augmentation", AugmentationSettings),
        face.sampler,
        face.context,
        sampling=face.sampling,
        rewards=face.rewards,
    )
    rolled_out = roll_out(
        data,
        model,
        hardness,
        augmented.artifacts["augmentation"],
        training,
        face.settings("rollout", RolloutSettings),
        face.sampler,
        face.context,
        sampling=face.sampling,
        rewards=face.rewards,
    )
    return {"difficulty": estimated, "augmentation": augmented, "rollout": rolled_out}
