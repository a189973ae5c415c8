"""What training minimises: one pure function a file over one record, and the table that names them."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from components.training.objectives.grpo import grpo
from components.training.objectives.inputs import LossInputs
from components.training.objectives.reg_grpo import reg_grpo
from components.training.settings import TrainingSettings

Objective = Callable[[LossInputs, TrainingSettings], Float[Tensor, " groups"]]

OBJECTIVES: dict[str, Objective] = {"reg_grpo": reg_grpo, "grpo": grpo}
