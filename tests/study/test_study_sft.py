"""The supervised arm learns right responses to the questions that the other arms train on."""

from __future__ import annotations

from pathlib import Path

import torch

from components.ingest.moving_shapes.generate import MovingShapesSettings, plan
from components.shared.dataset import DatasetReader
from components.shared.policy_inputs import banned_token_ids, load_processor
from components.shared.prompts import is_well_formed
from components.shared.rewards.accuracy import is_right
from components.shared.schemas import TRAIN_SPLIT
from components.training.policy import load_policy
from components.training.settings import TrainingSettings
from tests.benchmarks.study.features import Recent, SeeingOnce
from tests.benchmarks.study.sft import fine_tune, right_responses
from tests.benchmarks.study.trainer import Trainer
from tests.training_fixtures import write_dataset

BASE = Path(__file__).parents[2] / "components/ingest/tiny_model/weights"


def test_there_is_a_right_response_to_every_training_question_and_no_other() -> None:
    found = right_responses(0)
    samples = {s.id: s for video in plan(MovingShapesSettings(seed=0)) for s in video.samples if s.split == TRAIN_SPLIT}
    assert found.keys() == samples.keys() and len(found) > 500
    for name, text in found.items():
        assert is_well_formed(text) and is_right(samples[name], text), (name, text)


def test_it_makes_the_shown_responses_likely_and_leaves_the_vision_tower_alone(tmp_path: Path) -> None:
    samples = write_dataset(tmp_path / "dataset", 4)
    shown = dict.fromkeys(samples, "<think>look at the square. it is green.</think><answer>B</answer>")
    processor = load_processor(BASE)
    policy = SeeingOnce(load_policy(BASE, torch.float32), banned_token_ids(processor), 2048)
    policy.seen = Recent()
    settings = TrainingSettings(learning_rate=1e-3, dtype="float32", micro_batch_groups=2)
    trainer = Trainer(policy, BASE, processor, settings, seed=0)
    vision = [value.clone() for value in policy.model.model.visual.parameters()]
    losses = fine_tune(trainer, DatasetReader(tmp_path / "dataset"), shown, steps=12, size=4)
    assert len(losses) == 12 and losses[-1] < 0.5 * losses[0]
    assert all(map(torch.equal, vision, policy.model.model.visual.parameters()))
