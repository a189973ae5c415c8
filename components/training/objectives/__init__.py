"""What training can minimise, by name: what each objective is, and its function, one a file.

Declarations are plain data, so that settings are checked without PyTorch; a function is loaded when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from components.training.objectives.inputs import LossInputs
    from components.training.settings import TrainingSettings

    LossFunction = Callable[[LossInputs, TrainingSettings], Float[Tensor, " groups"]]

ObjectiveName = Literal[
    "reg_grpo", "grpo", "rloo", "reinforce", "rebel", "reward_regression", "dpo", "online_dpo"
]  # fmt: skip


SUPERVISED = "sft"


@dataclass(frozen=True)
class Objective:
    """An objective, as far as it concerns others than its own function."""

    summary: str
    function: str  # a file of this package, and the function in it
    settings: frozenset[str] = frozenset()  # those it uses of the settings that not every objective uses
    rollout_policy: Literal["old", "reference"] = (
        "old"  # whose samples it wants: the round's policy's, or the run's first's
    )
    smallest_group: int = 2  # a group that has fewer responses adds nothing but its KL penalty
    kl_penalty: bool = True  # whether beta * KL is added; where not, beta and the reference are the objective's own
    importance_sampling_level: Literal["token", "sequence"] | None = None  # what epsilon clips the probability ratio of
    normalises_log_ratios: bool = False  # numerical noise in log-ratios must then stay below std_floor

    def load(self) -> LossFunction:
        """Its function: each group's value, before any mean over groups."""
        return getattr(import_module(f"{__name__}.{self.function}"), self.function)


OBJECTIVES: dict[ObjectiveName, Objective] = {
    "reg_grpo": Objective(
        "regression of the advantages by normalised log-ratios",
        function="reg_grpo",
        settings=frozenset({"std_floor"}),
        normalises_log_ratios=True,
    ),
    "grpo": Objective(
        "GRPO's surrogate, clipped or not",
        function="grpo",
        settings=frozenset({"std_floor", "epsilon", "epsilon_high", "loss_type"}),
        importance_sampling_level="token",
    ),
    "rloo": Objective(
        "the surrogate of whole responses with leave-one-out advantages",
        function="rloo",
        settings=frozenset({"epsilon", "epsilon_high"}),
        importance_sampling_level="sequence",
    ),
    "reinforce": Objective("log-likelihood weighted by reward", function="reinforce", smallest_group=1),
    "rebel": Objective(
        "regression of reward differences by log-ratio differences", function="rebel", settings=frozenset({"eta"})
    ),
    "reward_regression": Objective(
        "regression of rewards by log-ratios", function="reward_regression", settings=frozenset({"eta"})
    ),
    "dpo": Objective(
        "preferences between the first policy's responses",
        function="dpo",
        rollout_policy="reference",
        kl_penalty=False,
    ),
    "online_dpo": Objective("preferences between the round's responses", function="dpo", kl_penalty=False),
}
SFT = Objective("log-likelihood of given responses", function="sft", smallest_group=1)  # the warm-up's, not a round's


def declaration(name: str) -> Objective:
    """The objective of a name: one of OBJECTIVES, or `sft`."""
    return SFT if name == SUPERVISED else OBJECTIVES[name]  # type: ignore[index]  # checked by the settings
