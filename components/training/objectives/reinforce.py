"""REINFORCE (Williams, Machine Learning 8, 1992), without a baseline: the log-likelihood weighted by the reward."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from components.training.advantages import masked_mean
from components.training.objectives.inputs import LossInputs
from components.training.settings import TrainingSettings


def reinforce(inputs: LossInputs, settings: TrainingSettings) -> Float[Tensor, " groups"]:
    """-mean_i R_i log pi_theta(y_i | x), summed over the response's tokens.

    A group whose rewards are all equal counts like any other: without a baseline it makes its responses likelier.
    """
    loglikelihoods = torch.where(inputs.active, inputs.logprobs, 0).sum(-1)
    return -masked_mean(inputs.rewards * loglikelihoods, inputs.responses)
