"""RLOO (Ahmadian et al., arXiv 2402.14740): a response's baseline is the mean reward of the group's others."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from components.training.advantages import leave_one_out, masked_mean
from components.training.objectives.inputs import LossInputs, log_ratios
from components.training.objectives.surrogate import surrogate
from components.training.settings import TrainingSettings


def rloo(inputs: LossInputs, settings: TrainingSettings) -> Float[Tensor, " groups"]:
    """-mean_i min(r_i A_i, clip(r_i, 1 - epsilon, 1 + epsilon_high) A_i), r_i = exp(rho_i), A_i = R_i - mean_{j != i} R_j.

    As in TRL's RLOOTrainer. At unchanged weights its gradient is that of -mean_i A_i log pi_theta(y_i | x), the paper's.
    A group whose rewards are all equal, by the tolerance, gives 0.
    """
    advantages = leave_one_out(inputs.rewards, inputs.responses)
    value = -masked_mean(surrogate(log_ratios(inputs), advantages, settings), inputs.responses)
    return torch.where(inputs.informative, value, 0)
