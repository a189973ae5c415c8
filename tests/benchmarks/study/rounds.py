"""A run's rounds: the pipeline's own sampling steps on the study's engine, and training in this process."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from time import process_time
from typing import Any, TypeVar

from components.shared.context import StepContext
from components.shared.ledger import Outputs
from components.shared.sampling.artifacts import BUFFER, put_files, read_groups
from components.shared.schemas import ArtifactRef
from components.shared.settings import StepSettings
from components.shared.store import open_store
from pipelines.fused_sampling.step import sample_round
from pipelines.settings import RunSettings
from tests.benchmarks.study.budget import Spent
from tests.benchmarks.study.records import RoundFigures
from tests.benchmarks.study.sampler import BatchSampler
from tests.benchmarks.study.trainer import Trainer, samples_from_base
from tests.benchmarks.study.workplace import Workplace

_AUGMENTED_COST = 14.0  # responses that a sample is expected to cost with augmentation, before a round has shown it

AnySettings = TypeVar("AnySettings", bound=StepSettings)


class Face:
    """What the pipeline's fused sampling asks of its KFP face, without KFP."""

    def __init__(self, settings: RunSettings, sampler: BatchSampler, context: StepContext) -> None:
        self._settings, self.sampler, self.context = settings, sampler, context
        self.sampling, self.rewards = settings.sampling, settings.rewards

    @staticmethod
    def ref(artifact: ArtifactRef) -> ArtifactRef:
        """The reference itself: here no file lies between."""
        return artifact

    def settings(self, section: str, model: type[AnySettings]) -> AnySettings:
        """A section of the run's settings."""
        found = getattr(self._settings, section)
        assert isinstance(found, model)
        return found


class Clock:
    """Seconds of this core by what they were spent on."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the block's seconds to a part's."""
        started = process_time()
        yield
        self.seconds[part] += process_time() - started


class Rounds:
    """Plays rounds one by one. `folder` is the run's own and may be thrown away afterwards."""

    def __init__(self, place: Workplace, settings: RunSettings, folder: Path, clock: Clock) -> None:
        self.place, self.settings, self.folder, self.clock = place, settings, folder, clock
        self.store = open_store(str(folder / "store"))
        for kind, source in (("dataset", place.dataset), ("policy", place.base)):
            (folder / "store" / kind).mkdir(parents=True)
            (folder / "store" / kind / source.name).symlink_to(source)
        self.policy = place.inputs.policy
        self.buffer = put_files(self.store, "buffer", {BUFFER: b""})
        seed = settings.pipeline.seed
        self.trainer = Trainer(place.new_policy(), place.base, place.processor, settings.training, seed)
        augmented = settings.augmentation.augment_mode != "none"
        self.cost = _AUGMENTED_COST if augmented else float(settings.sampling.num_generations)
        self.responses, self.figures = 0, list[RoundFigures]()

    @property
    def updates(self) -> int:
        """Optimizer steps so far."""
        return self.trainer.progress.optimizer_steps

    @property
    def policy_folder(self) -> Path:
        """The newest policy."""
        return self.store.get(self.policy)

    def play(self, prompts: int) -> None:
        """One round of `prompts` samples."""
        number = len(self.figures) + 1
        difficulty = self.settings.difficulty.model_copy(update={"prompts_per_round": prompts})
        settings = self.settings.model_copy(update={"difficulty": difficulty})
        inputs = self.place.inputs
        with self.clock.timed("sampling"):
            outputs = sample_round(
                Face(
                    settings,
                    self.place.sampler,
                    StepContext(store=str(self.folder / "store"), seed=settings.pipeline.seed, round=number),
                ),
                inputs.dataset,
                inputs.policy if samples_from_base(settings.training) else self.policy,
                self.buffer,
                inputs.state,
            )
            groups = read_groups(self.store.get(outputs["rollout"].artifacts["groups"]))
        with self.clock.timed("training"):
            steps = self.trainer.train(groups, self.place.reader, number)
            old = self.policy_folder if self.policy != inputs.policy else None
            written = self.trainer.write(self.folder / f"policy-{number}")
            self.policy = self.store.put(written, "policy", inputs.policy.metadata)
            if old is not None and old != self.policy_folder:
                shutil.rmtree(old)
        self.buffer = outputs["difficulty"].artifacts["buffer"]
        spent = spent_on(outputs)
        self.responses, self.cost = self.responses + spent.total, spent.total / prompts
        self.figures.append(_figures(number, prompts, spent, outputs, steps))


def spent_on(outputs: Mapping[str, Outputs]) -> Spent:
    """What the round's steps say that they sampled."""

    def count(step: str, name: str) -> int:
        return int(str(outputs[step].results.get(name, 0)))

    return Spent(
        count("difficulty", "responses"),
        count("augmentation", "augmented/responses_sampled"),
        count("rollout", "responses_sampled"),
    )


def _figures(
    number: int, prompts: int, spent: Spent, outputs: Mapping[str, Outputs], steps: Sequence[Mapping[str, Any]]
) -> RoundFigures:
    before, after = outputs["difficulty"].results, outputs["rollout"].results
    last = steps[-1]
    norms = [step["grad_norm"] for step in steps if step["grad_norm"] is not None]
    return RoundFigures(
        round=number,
        prompts=prompts,
        responses=spent.total,
        optimizer_steps=len(steps),
        reward=_rounded(after["reward"]),
        reward_unaugmented=_rounded(before["reward"]),
        all_equal=_rounded(after["frac_reward_zero_std"]),
        all_equal_unaugmented=_rounded(before["frac_reward_zero_std"]),
        hinted=int(str(after["groups/hint"])),
        noised=int(str(after["groups/noise"])),
        kl=_defined(last["kl"]),
        rho_std=_defined(last["rho_std"]),
        entropy=_defined(last["entropy"]),
        grad_norm=_rounded(fmean(norms)) if norms else None,
    )


def _defined(value: float | None) -> float | None:
    return None if value is None else _rounded(value)


def _rounded(value: Any) -> float:
    return float(f"{float(value):.5g}")
