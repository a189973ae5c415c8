"""The loss of one micro-batch: the objective and the KL penalty of whole groups."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from components.training.kl import group_kl, token_kl
from components.training.objectives import OBJECTIVES
from components.training.objectives.inputs import LossInputs
from components.training.settings import TrainingSettings


@dataclass(frozen=True, eq=False)
class GroupLosses:
    """Per group, before any mean."""

    loss: Float[Tensor, " groups"]
    kl: Float[Tensor, " groups"] | None  # None without a reference; without gradient if beta is 0


def group_losses(
    inputs: LossInputs, ref_logprobs: Float[Tensor, "groups responses tokens"] | None, settings: TrainingSettings
) -> GroupLosses:
    """objective + beta * KL(pi_theta || pi_ref) of each group."""
    loss = OBJECTIVES[settings.objective](inputs, settings)
    if ref_logprobs is None:
        return GroupLosses(loss, None)
    with torch.set_grad_enabled(settings.beta > 0 and torch.is_grad_enabled()):
        kl = group_kl(token_kl(inputs.logprobs, ref_logprobs, settings.kl_estimator), inputs.tokens, inputs.responses)
    return GroupLosses(loss + settings.beta * kl if settings.beta > 0 else loss, kl)
