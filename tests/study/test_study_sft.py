"""The supervised arm learns the responses that the annotations bring, and leaves the vision tower alone."""

from __future__ import annotations

from pathlib import Path

import torch

from components.shared.dataset import DatasetReader
from components.shared.policy_inputs import banned_token_ids, load_processor
from components.training.policy import load_policy
from components.training.settings import TrainingSettings
from tests.benchmarks.study.features import Recent, SeeingOnce
from tests.benchmarks.study.sft import fine_tune, one_batch
from tests.benchmarks.study.trainer import Trainer
from tests.training_fixtures import write_dataset

BASE = Path(__file__).parents[2] / "components/ingest/tiny_model/weights"


def test_it_makes_the_shown_responses_likely_and_leaves_the_vision_tower_alone(tmp_path: Path) -> None:
    shown = "<think>look at the square. it is green.</think><answer>B</answer>"
    write_dataset(tmp_path / "dataset", 4, response=shown)
    processor = load_processor(BASE)
    policy = SeeingOnce(load_policy(BASE, torch.float32), banned_token_ids(processor), 2048)
    policy.seen = Recent()
    settings = one_batch(TrainingSettings(learning_rate=1e-3, dtype="float32"), 4)
    trainer = Trainer(policy, BASE, processor, settings, seed=0)
    vision = [value.clone() for value in policy.model.model.visual.parameters()]
    losses = fine_tune(trainer, DatasetReader(tmp_path / "dataset"), steps=12, size=4)
    assert len(losses) == 12 and losses[0] is not None and losses[-1] is not None
    assert losses[-1] < 0.5 * losses[0]
    assert all(map(torch.equal, vision, policy.model.model.visual.parameters()))
