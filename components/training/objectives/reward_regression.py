"""Reward regression (a baseline of DeepVideo-R1, arXiv 2506.07464, appendix D): regress the reward itself.

The optimum of E[R] - KL(pi || pi_old) / eta is pi* = pi_old exp(eta R) / Z, so that R = (log(pi* / pi_old) + log Z) / eta.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from components.training.advantages import masked_mean
from components.training.objectives.inputs import LossInputs, log_ratios
from components.training.settings import TrainingSettings


def reward_regression(inputs: LossInputs, settings: TrainingSettings) -> Float[Tensor, " groups"]:
    """mean_i (R_i - (rho_i + log Z) / eta)^2 with Z = mean_j exp(eta R_j), its Monte Carlo estimate from pi_old's samples.

    All-equal rewards keep their place: they are regressed by rho = 0, which is pi_old.
    """
    scaled = (settings.eta * inputs.rewards).masked_fill(~inputs.responses, -torch.inf)
    count = inputs.responses.sum(-1).clamp(min=1).to(scaled.dtype)
    log_z = scaled.logsumexp(-1) - count.log()
    errors = inputs.rewards - (log_ratios(inputs) + log_z[..., None]) / settings.eta
    return masked_mean(errors.square(), inputs.responses)
