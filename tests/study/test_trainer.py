"""The study's training in one process ends where the pipeline's training step does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from components.shared.context import StepContext
from components.shared.dataset import DatasetReader
from components.shared.policy_inputs import banned_token_ids, load_processor
from components.shared.sampling.artifacts import read_groups
from components.training.policy import load_policy
from components.training.settings import TrainingSettings
from components.training.step import train
from tests.benchmarks.study.features import Recent, SeeingOnce
from tests.benchmarks.study.trainer import Trainer
from tests.training_fixtures import stored_inputs

BASE = Path(__file__).parents[2] / "components/ingest/tiny_model/weights"
SETTINGS = TrainingSettings(
    learning_rate=1e-3,
    beta=0.05,
    steps_per_generation=3,
    num_iterations=2,
    micro_batch_tokens=600,
    checkpoint_steps=0,
    max_grad_norm=0.5,
    dtype="float32",
)


def test_a_round_gives_the_weights_of_the_pipelines_training_step(tmp_path: Path) -> None:
    context = StepContext(store=str(tmp_path / "store"), seed=3, round=1)
    store = context.open_store()
    refs = stored_inputs(store, tmp_path / "made", BASE, 6)
    expected = train(**refs, settings=SETTINGS, context=context)
    theirs = load_file(store.get(expected.artifacts["policy"]) / "model.safetensors")

    processor, base = load_processor(BASE), store.get(refs["policy"])
    policy = SeeingOnce(load_policy(base, torch.float32), banned_token_ids(processor), SETTINGS.lm_head_chunk)
    policy.seen = Recent()
    trainer = Trainer(policy, base, processor, SETTINGS, seed=3)
    steps = trainer.train(read_groups(store.get(refs["groups"])), DatasetReader(store.get(refs["dataset"])), 1)
    ours = load_file(trainer.write(tmp_path / "policy") / "model.safetensors")

    before = load_file(base / "model.safetensors")
    moved = sum(float((theirs[name] - before[name]).square().sum()) for name in theirs)
    apart = sum(float((theirs[name] - ours[name]).square().sum()) for name in theirs)
    size = sum(float(value.square().sum()) for value in theirs.values())
    assert apart**0.5 <= 1e-6 * size**0.5 and apart**0.5 <= 1e-3 * moved**0.5 and moved > 0
    for mine, other in zip(steps, expected.results["steps"], strict=True):
        for name in ("loss", "kl", "rho_std", "entropy", "grad_norm", "frac_reward_zero_std"):
            assert mine[name] == pytest.approx(other[name], rel=1e-4, abs=1e-6), name
