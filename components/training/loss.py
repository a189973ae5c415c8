"""The loss of one micro-batch: the objective and the KL penalty of whole groups, and how hard each pulls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from components.training.kl import group_kl, token_kl
from components.training.objectives.inputs import LossInputs

if TYPE_CHECKING:
    from jaxtyping import Float

    from components.training.settings import TrainingSettings


@dataclass(frozen=True, eq=False)
class GroupLosses:
    """Per group, before any mean."""

    objective: Float[Tensor, " groups"]
    penalty: Float[Tensor, " groups"] | None  # None where none is added
    kl: Float[Tensor, " groups"] | None  # None without a reference; without gradient if it is not penalised

    @property
    def loss(self) -> Float[Tensor, " groups"]:
        """What is minimised."""
        return self.objective if self.penalty is None else self.objective + self.penalty


def group_losses(inputs: LossInputs, settings: TrainingSettings) -> GroupLosses:
    """The objective, and beta * KL(pi_theta || pi_ref), of each group.

    A group with fewer responses left than the objective's smallest group leaves the objective; its KL stays.
    """
    objective = settings.declared
    enough = inputs.responses.sum(-1) >= objective.smallest_group
    value = torch.where(enough, objective.load()(inputs, settings), 0)
    if inputs.ref_logprobs is None:
        return GroupLosses(value, None, None)
    penalised = objective.kl_penalty and settings.beta > 0
    with torch.set_grad_enabled(penalised and torch.is_grad_enabled()):
        tokens = token_kl(inputs.logprobs, inputs.ref_logprobs, settings.kl_estimator)
        kl = group_kl(tokens, inputs.tokens, inputs.responses)
    return GroupLosses(value, settings.beta * kl if penalised else None, kl)


@torch.enable_grad()
def squared_gradient_norms(
    inputs: LossInputs, settings: TrainingSettings
) -> tuple[Float[Tensor, " groups"], Float[Tensor, " groups"]]:
    """Of each group's objective and of its KL penalty: the squared norm of the gradient by pi_theta's log-probs.

    Their gradients by the weights would need a backward pass each; these are exact, and cost as much as the loss.
    """
    logprobs = inputs.logprobs.detach().requires_grad_()
    losses = group_losses(replace(inputs, logprobs=logprobs), settings)
    return _squared_norm(losses.objective, logprobs), _squared_norm(losses.penalty, logprobs)


def _squared_norm(
    values: Float[Tensor, " groups"] | None, logprobs: Float[Tensor, "groups responses tokens"]
) -> Float[Tensor, " groups"]:
    if values is None:
        return logprobs.new_zeros(len(logprobs))
    (gradient,) = torch.autograd.grad(values.sum(), logprobs)
    return gradient.square().sum((1, 2))
