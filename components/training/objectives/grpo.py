"""GRPO (DeepSeekMath, arXiv 2402.03300, equation 3, without its KL term): the clipped, token-averaged surrogate."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from components.training.advantages import masked_mean
from components.training.objectives.inputs import LossInputs
from components.training.settings import TrainingSettings


def grpo(inputs: LossInputs, settings: TrainingSettings) -> Float[Tensor, " groups"]:
    """-mean_i mean_t min(r A_i, clip(r, 1 - epsilon, 1 + epsilon) A_i) with a token's r = pi_theta / pi_old."""
    ratio = (inputs.logprobs - inputs.old_logprobs).exp()
    advantages = inputs.advantages[..., None]
    clipped = ratio.clamp(1 - settings.epsilon, 1 + settings.epsilon)
    surrogate = torch.minimum(ratio * advantages, clipped * advantages)
    return -masked_mean(masked_mean(surrogate, inputs.tokens), inputs.responses)
