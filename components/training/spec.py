"""What is to be trained, what the workers are told of it, and what they tell."""

from __future__ import annotations

from pathlib import Path

from components.shared.context import StepContext
from components.shared.sampling.artifacts import GROUPS
from components.shared.schemas import ArtifactRef, Record
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


class Work(Record):
    """A round, or a warm-up, by reference: the same wherever it is trained."""

    settings: TrainingSettings | SupervisedSettings
    context: StepContext
    key: str
    dataset: ArtifactRef
    policy: ArtifactRef
    base: ArtifactRef | None
    adapter: Adapter | None
    reference: ArtifactRef | None
    groups: ArtifactRef
    state: ArtifactRef | None  # None in a warm-up, which starts from nothing and hands no state on
    noted: dict[str, int]  # what the new policy's metadata say of this work

    def fetched(self, output: Path) -> WorkerSpec:
        """For the workers of this machine, which then has all artifacts. `output` is where they write."""
        store = self.context.open_store()
        nothing = output.with_name("nothing")
        nothing.mkdir()
        return WorkerSpec(
            settings=self.settings,
            context=self.context,
            key=self.key,
            dataset=store.get(self.dataset),
            policy=store.get(self.policy),
            base=store.get(self.base) if self.base else None,
            adapter=self.adapter,
            reference=store.get(self.reference) if self.reference else None,
            groups=store.get(self.groups) / GROUPS,
            state=store.get(self.state) if self.state else nothing,
            output=output,
        )


class Report(Record):
    """What a finished worker says about its round."""

    startup_seconds: float  # imports, loading the policy, and starting DeepSpeed
    skipped_steps: int
    noise: float | None  # std(rho) at unchanged weights, None where it is not finite
    frozen_tensors: int  # of the written policy, whose bytes are proved to be the input's
    engines: dict[str, str]  # name -> version of what ran
    metrics: tuple[dict[str, float | None], ...]  # one record an optimizer step
