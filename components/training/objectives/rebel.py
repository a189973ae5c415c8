"""REBEL (Gao et al., arXiv 2404.16767): regress differences of rewards by differences of log-ratios."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from components.training.advantages import masked_mean
from components.training.objectives.inputs import LossInputs, log_ratios
from components.training.settings import TrainingSettings


def rebel(inputs: LossInputs, settings: TrainingSettings) -> Float[Tensor, " groups"]:
    """mean over pairs i < j of ((rho_i - rho_j) - eta (R_i - R_j))^2, the paper's loss times eta^2, over all the group's pairs.

    Computed as twice the sample variance of rho - eta R, which is the same. All-equal rewards keep their place: the
    regression then says that the responses' relative probabilities should stay as they were.
    """
    errors = log_ratios(inputs) - settings.eta * inputs.rewards
    deviations = errors - masked_mean(errors, inputs.responses)[..., None]
    count = inputs.responses.sum(-1)
    return 2 * masked_mean(deviations.square(), inputs.responses) * count / (count - 1).clamp(min=1)
