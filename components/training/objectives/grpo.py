"""GRPO (DeepSeekMath, arXiv 2402.03300, equation 3, without its KL term): the surrogate of tokens."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from components.training.advantages import masked_mean
from components.training.objectives.inputs import LossInputs, token_log_ratios
from components.training.objectives.surrogate import surrogate
from components.training.settings import TrainingSettings


def grpo(inputs: LossInputs, settings: TrainingSettings) -> Float[Tensor, " groups"]:
    """Minus the mean of min(r A_i, clip(r, 1 - epsilon, 1 + epsilon_high) A_i) with a token's r = pi_theta / pi_old.

    `loss_type`, as in TRL, says which mean over tokens t of responses i. `grpo`: over a response's, then over responses.
    `bnpo`: over the group's, the local batch being one group. `dapo` (arXiv 2503.14476): over the optimizer step's, so
    that a group's value is its sum over the mean count of tokens. `epsilon` 0 does not clip, and takes no minimum.
    A group whose rewards are all equal gives 0, also where they differ by less than the tolerance.
    """
    tokens = surrogate(token_log_ratios(inputs, inputs.old_logprobs), inputs.advantages[..., None], settings)
    if settings.loss_type == "grpo":
        value = masked_mean(masked_mean(tokens, inputs.active), inputs.responses)
    elif settings.loss_type == "bnpo":
        value = masked_mean(tokens.flatten(1), inputs.active.flatten(1))
    else:
        value = torch.where(inputs.active, tokens, 0).sum((1, 2)) / inputs.tokens_per_group
    return torch.where(inputs.informative, -value, 0)
