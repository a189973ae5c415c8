"""Reg-GRPO (DeepVideo-R1, arXiv 2506.07464): regress the advantage by the normalised log-ratio of whole responses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from components.training.advantages import masked_mean, normalised
from components.training.objectives.inputs import LossInputs, log_ratios

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from components.training.settings import TrainingSettings


def reg_grpo(inputs: LossInputs, settings: TrainingSettings) -> Float[Tensor, " groups"]:
    """mean_i (A_i - A_theta_i)^2 with A_theta = (rho - mean(rho)) / sqrt(var(rho) + std_floor^2); std has its gradient.

    A group whose rewards are all equal gives 0: its advantages are 0, but the floor would still pull its log-ratios
    together.
    """
    predicted = normalised(log_ratios(inputs), inputs.responses, settings.std_floor)
    return torch.where(inputs.informative, masked_mean((inputs.advantages - predicted).square(), inputs.responses), 0)
