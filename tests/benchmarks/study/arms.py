"""The arms of the study: what each one changes in the laptop preset, how many seeds it gets, and where it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines.settings import RunSettings, build_settings, load_preset

MAIN_SEEDS, OTHER_SEEDS = 5, 3
LEARNING_RATES = (1e-4, 2e-4, 5e-4)
TUNING_SEED = 1000  # of the short runs that choose the learning rate; no arm's own seed

Table = Literal["main", "objectives", "reference", "sides", "levels", "staleness"]
Method = Literal["none", "supervised", "rl"]


@dataclass(frozen=True)
class Arm:
    """One arm. `changes` are settings by their dotted names, laid upon the preset."""

    name: str
    label: str
    tables: tuple[Table, ...]
    changes: Mapping[str, Any] = field(default_factory=dict)
    method: Method = "rl"
    seeds: int = OTHER_SEEDS

    @property
    def equal_updates(self) -> bool:
        """Whether the arm is also compared at equal optimizer steps."""
        return "main" in self.tables or "objectives" in self.tables

    def settings(self, seed: int, learning_rate: float | None) -> RunSettings:
        """The run's settings."""
        own = {"pipeline.seed": seed}
        if learning_rate is not None:
            own["training.learning_rate"] = learning_rate
        return build_settings(load_preset("laptop"), dict(self.changes), own)


PLAIN = {"augmentation.augment_mode": "none"}
GRPO = {"training.objective": "grpo", "training.std_floor": 1e-4}  # TRL's epsilon in the advantages' denominator


def _objective(name: str, label: str, **changes: Any) -> Arm:
    own = {f"training.{key}": value for key, value in changes.items()}
    # the preset's floor belongs to Reg-GRPO; where no floor is used, the setting must be left at its default
    floor = {"training.std_floor": 1.0}
    return Arm(name, label, ("objectives",), {**PLAIN, **floor, "training.objective": name, **own})


def _stale(steps: int) -> Arm:
    """`steps` optimizer steps a generation, each on twelve groups: the fewer, the smaller and the more rounds."""
    changes = {
        "difficulty.prompts_per_round": 12 * steps,
        "training.steps_per_generation": steps,
        "training.num_iterations": 1,
    }
    return Arm(f"stale_{steps}", f"{steps} step{'s' * (steps > 1)} a generation", ("staleness",), changes)


BASE, SFT, REG, REG_AUG = "base", "sft", "reg_grpo", "reg_grpo_augmented"
GRPO_NAME, GRPO_AUG = "grpo", "grpo_augmented"

ARMS = {
    arm.name: arm
    for arm in (
        Arm(BASE, "base", ("main",), method="none", seeds=MAIN_SEEDS),
        Arm(SFT, "SFT", ("main",), method="supervised", seeds=MAIN_SEEDS),
        Arm(GRPO_NAME, "GRPO", ("main", "objectives"), {**PLAIN, **GRPO}, seeds=MAIN_SEEDS),
        Arm(GRPO_AUG, "GRPO, augmented", ("main",), GRPO, seeds=MAIN_SEEDS),
        Arm(REG, "Reg-GRPO", ("main", "objectives", "sides"), PLAIN, seeds=MAIN_SEEDS),
        Arm(
            REG_AUG,
            "Reg-GRPO, augmented",
            ("main", "reference", "sides", "levels", "staleness"),
            seeds=MAIN_SEEDS,
        ),
        _objective("dpo", "DPO", beta=0.1),  # there beta is no penalty's weight but the factor of the log-ratios
        _objective("online_dpo", "online DPO", beta=0.1),
        _objective("reinforce", "REINFORCE"),
        _objective("rloo", "RLOO"),
        _objective("rebel", "REBEL"),
        _objective("reward_regression", "reward regression"),
        Arm("grpo_unclipped", "GRPO without clip", ("objectives",), {**PLAIN, **GRPO, "training.epsilon": 0.0}),
        Arm("absolute", "absolute difficulty", ("reference",), {"difficulty.difficulty_reference": "absolute"}),
        Arm("harder_only", "easy made harder only", ("sides",), {"augmentation.augment_mode": "harder_only"}),
        Arm("easier_only", "hard made easier only", ("sides",), {"augmentation.augment_mode": "easier_only"}),
        Arm("fixed", "fixed levels", ("levels",), {"augmentation.level_schedule": "fixed"}),
        _stale(1),
        _stale(4),
        _stale(8),
    )
}


@dataclass(frozen=True)
class Plan:
    """What of the study is run, and how large. Budgets are in sampled responses."""

    name: str
    arms: tuple[str, ...] = tuple(ARMS)
    most_seeds: int = MAIN_SEEDS
    responses: int = 12_000  # a run: about six rounds of the preset with augmentation
    tuning_responses: int = 2_400  # a short run that tries a learning rate
    learning_rates: tuple[float, ...] = LEARNING_RATES
    questions: int = 0  # asked in each level, 0: all
    updates: int = 216  # optimizer steps of the second comparison: six rounds of the preset

    def seeds(self, arm: Arm) -> range:
        """The arm's seeds."""
        return range(min(arm.seeds, self.most_seeds))


FULL = Plan("study")
QUICK = Plan(
    "study-quick",
    arms=(BASE, SFT, GRPO_NAME, REG, REG_AUG),
    most_seeds=2,
    responses=3_000,
    tuning_responses=1_200,
    questions=60,
    updates=36,
)
