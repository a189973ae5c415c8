"""Whole runs on a small data set, in worker processes: chosen learning rates, budgets, and going on after a stop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.shared.context import StepContext
from components.shared.sampling.artifacts import put_files
from components.shared.schemas import Sample
from tests.benchmarks.study.arms import ARMS, BASE, Arm, Plan
from tests.benchmarks.study.records import RunRecord
from tests.benchmarks.study.schedule import Job, Study, run_all
from tests.benchmarks.study.workplace import Inputs
from tests.round_fixtures import write_dataset

WEIGHTS = Path(__file__).parents[2] / "components/ingest/tiny_model/weights"
SPLITS = {"train": 12, "tuning": 2, "L1": 2, "L2": 2, "L3": 2}
SMALL = {
    "difficulty.prompts_per_round": 6,
    "training.steps_per_generation": 2,
    "training.num_iterations": 1,
    "sampling.num_generations": 4,
    "augmentation.augment_deadband": 0.0,
}
ARM = Arm("small", "small", ("main",), SMALL, seeds=2)
PLAN = Plan(
    "small",
    arms=(BASE, "small"),
    most_seeds=2,
    responses=120,
    tuning_responses=60,
    learning_rates=(1e-4, 5e-4),
    updates=4,
)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setitem(ARMS, "small", ARM)
    for name in ("OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM", "TORCHDYNAMO_DISABLE"):
        monkeypatch.setenv(name, "1")  # `run_all` sets them: later tests must not find them
    rng = np.random.default_rng(0)
    samples = [
        Sample(
            id=f"{split}_{index}", video=f"v_{split}_{index}", question="What color is the square?",
            options=("red", "green", "blue", "yellow"), answer="B", task="multiple_choice", split=split,
        )
        for split, count in SPLITS.items()
        for index in range(count)
    ]  # fmt: skip
    videos = [rng.integers(0, 256, (8, 56, 56, 3), dtype=np.uint8) for _ in samples]
    store = StepContext(store=str(tmp_path / "store")).open_store()
    inputs = Inputs(
        tmp_path / "store",
        store.put(write_dataset(tmp_path / "dataset", samples, videos), "dataset"),
        put_files(store, "policy", {path.name: path.read_bytes() for path in WEIGHTS.iterdir()}),
        put_files(store, "state", {"progress.json": b"{}"}, {"stop_reason": ""}),
    )
    return Study(PLAN, inputs, tmp_path / "results")


def run(study: Study) -> dict[str, tuple[RunRecord, bool]]:
    told: dict[str, tuple[RunRecord, bool]] = {}

    def done(job: Job, found: RunRecord, cached: bool) -> None:
        told[job.path.stem] = (found, cached)

    run_all(study, set(PLAN.arms), 1, done)
    return told


def test_a_stopped_study_goes_on_to_the_same_figures(study: Study) -> None:
    first = run(study)
    names = {"base-seed0", "base-seed1", "small-0.0001", "small-0.0005", "small-seed0", "small-seed1"}
    assert set(first) == names and not any(cached for _, cached in first.values())
    assert study.rates["small"] in PLAN.learning_rates
    record, _ = first["small-seed0"]
    assert record.learning_rate == study.rates["small"]
    assert record.at_updates is not None and record.at_updates.optimizer_steps == PLAN.updates
    until = [sum(item.responses for item in record.rounds[:k]) for k in range(len(record.rounds) + 1)]
    assert record.at_responses.responses in until
    usual = 6 * 4 * 2.5  # with hints and augmented groups
    assert abs(record.at_responses.responses - PLAN.responses) <= usual / 2
    assert any(item.hinted + item.noised for item in record.rounds)
    assert {level: len(found.sampled) for level, found in record.at_responses.levels.items()} == {
        "L1": 2, "L2": 2, "L3": 2,
    }  # fmt: skip

    (study.folder / "raw" / "small-seed1.json").unlink()
    again = run(Study(PLAN, study.inputs, study.folder))
    assert {name for name, (_, cached) in again.items() if not cached} == {"small-seed1"}
    for name, (found, _) in again.items():
        assert found.model_copy(update={"seconds": {}}) == first[name][0].model_copy(update={"seconds": {}}), name
