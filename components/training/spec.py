"""What the step tells its workers, and what they tell it."""

from __future__ import annotations

from pathlib import Path

from components.shared.context import StepContext
from components.shared.schemas import Record
from components.training.settings import TrainingSettings
from components.training.state import Adapter
from components.training.warmup_settings import SupervisedSettings

POLICY, STATE, SUMMARY = "policy", "state", "summary.json"  # below WorkerSpec.output


class WorkerSpec(Record):
    """All that a worker is told."""

    settings: TrainingSettings | SupervisedSettings
    context: StepContext
    key: str  # the ledger's, for checkpoints
    dataset: Path
    policy: Path
    base: Path | None  # what an adapter stands on; None in full training
    adapter: Adapter | None
    reference: Path | None  # None where no log-probs under the run's first policy are needed
    groups: Path  # the Parquet file
    state: Path
    output: Path


class Report(Record):
    """What a finished worker says about its round."""

    startup_seconds: float  # imports, loading the policy, and starting DeepSpeed
    skipped_steps: int
    noise: float | None  # std(rho) at unchanged weights, None where it is not finite
    frozen_tensors: int  # of the written policy, whose bytes are proved to be the input's
    engines: dict[str, str]  # name -> version of what ran
    metrics: tuple[dict[str, float | None], ...]  # one record an optimizer step
