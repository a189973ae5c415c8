"""One run of one arm: rounds until its budget is spent, and its evaluations."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from components.evaluation.answering import answer_questions
from components.shared.schemas import TUNING_SPLIT
from components.shared.scores import Answered, by_level
from pipelines.settings import RunSettings
from tests.benchmarks.study.arms import Arm, Plan
from tests.benchmarks.study.budget import next_prompts
from tests.benchmarks.study.records import Evaluated, Level, RunRecord
from tests.benchmarks.study.rounds import Clock, Rounds
from tests.benchmarks.study.sft import fine_tune, one_batch
from tests.benchmarks.study.trainer import Trainer
from tests.benchmarks.study.workplace import LEVELS, Workplace

Tell = Callable[[str], None]


class Run:
    """One run. A `tuning` one is short and evaluated on the tuning split alone, to choose a learning rate."""

    def __init__(self, place: Workplace, plan: Plan, arm: Arm, settings: RunSettings, *, tuning: bool) -> None:
        self.place, self.plan, self.arm, self.settings, self.tuning = place, plan, arm, settings, tuning
        self.budget = plan.tuning_responses if tuning else plan.responses
        self.samples = place.questions([TUNING_SPLIT] if tuning else LEVELS, plan.questions)
        self.evaluation = settings.evaluation.model_copy(update={"greedy": not tuning})
        self.clock = Clock()

    def __call__(self, key: str, tell: Tell = lambda said: None) -> RunRecord:
        """Do it. `tell` is told of every round."""
        rounds: Rounds | None = None
        with tempfile.TemporaryDirectory(prefix="study-") as folder:
            if self.arm.method == "none":
                final: Evaluated = self._evaluated(self.place.base, 0, 0)
                at_updates: Evaluated | None = final
            elif self.arm.method == "supervised":
                final = at_updates = self._supervised(Path(folder))
            else:
                rounds = Rounds(self.place, self.settings, Path(folder), self.clock)
                final, at_updates = self._reinforced(rounds, tell)
        return RunRecord(
            key=key,
            arm=self.arm.name,
            seed=self.settings.pipeline.seed,
            learning_rate=None if self.arm.method == "none" else self.settings.training.learning_rate,
            at_responses=final,
            at_updates=at_updates,
            rounds=tuple(rounds.figures) if rounds else (),
            seconds={name: round(value, 1) for name, value in self.clock.seconds.items()},
        )

    def _reinforced(self, rounds: Rounds, tell: Tell) -> tuple[Evaluated, Evaluated | None]:
        """The policies at the budget of responses and, where it is compared, at that of updates: rounds until both."""
        usual = self.settings.difficulty.prompts_per_round
        at_responses: Evaluated | None = None
        at_updates: Evaluated | None = None
        compared = self.arm.equal_updates and not self.tuning
        while at_responses is None or (compared and at_updates is None):
            prompts = next_prompts(self.budget - rounds.responses, rounds.cost, usual)
            if not prompts and at_responses is None:
                same = at_updates is not None and at_updates.optimizer_steps == rounds.updates
                at_responses = at_updates if same else self._reached(rounds)
                continue
            rounds.play(prompts or usual)
            tell(f"round {len(rounds.figures)}, {rounds.responses} of {self.budget} responses")
            if compared and at_updates is None and rounds.updates >= self.plan.updates:
                at_updates = self._reached(rounds)
        return at_responses, at_updates

    def _supervised(self, folder: Path) -> Evaluated:
        """As many optimizer steps as the comparison at equal updates has, on as many prompts a step."""
        training, place = self.settings.training, self.place
        steps = self.plan.updates * self.budget // self.plan.responses
        size = self.settings.difficulty.prompts_per_round // training.steps_per_generation
        seed = self.settings.pipeline.seed
        trainer = Trainer(place.new_policy(), place.base, place.processor, one_batch(training, size), seed)
        with self.clock.timed("training"):
            fine_tune(trainer, place.reader, steps, size)
        return self._evaluated(trainer.write(folder / "policy"), 0, steps)

    def _reached(self, rounds: Rounds) -> Evaluated:
        return self._evaluated(rounds.policy_folder, rounds.responses, rounds.updates)

    def _evaluated(self, policy: Path, responses: int, steps: int) -> Evaluated:
        """The policy's answers to the run's questions, under draws that depend on seed and question alone."""
        with self.clock.timed("evaluating"):
            answers = answer_questions(
                self.place.reader,
                policy,
                self.samples,
                self.evaluation,
                self.place.sampler,
                self.settings.pipeline.seed,
            )
        levels = {level: _level(rows) for level, rows in by_level(answers).items()}
        return Evaluated(responses=responses, optimizer_steps=steps, levels=levels)


def _level(rows: Sequence[Answered]) -> Level:
    return Level(
        sampled=tuple(round(float(np.mean([answer.reward for answer in row.sampled])), 4) for row in rows),
        greedy=tuple(round(row.greedy.reward, 4) for row in rows if row.greedy is not None),
        parsed=tuple(float(np.mean([answer.parsed for answer in row.sampled])) for row in rows),
    )
