"""What every objective is a function of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class LossInputs:
    """Some whole groups, their responses padded to the same count and length. Padding is 0 in every log-prob."""

    logprobs: Float[Tensor, "groups responses tokens"]  # of pi_theta, with gradient
    old_logprobs: Float[Tensor, "groups responses tokens"]  # of pi_old, the policy at the round's start
    ref_logprobs: Float[Tensor, "groups responses tokens"] | None  # of pi_ref, None where it is not needed
    tokens: Bool[Tensor, "groups responses tokens"]  # where there is a token
    responses: Bool[Tensor, "groups responses"]  # which responses take part; an empty one does not
    rewards: Float[Tensor, "groups responses"]
    advantages: Float[Tensor, "groups responses"]  # normalised rewards; 0 where a response does not take part
    informative: Bool[Tensor, " groups"]  # False where the rewards are all equal
    tokens_per_group: float  # tokens that take part, mean over the optimizer step's groups on all ranks

    @property
    def active(self) -> Bool[Tensor, "groups responses tokens"]:
        """The tokens that take part: those of the responses that do."""
        return self.tokens & self.responses[..., None]


def token_log_ratios(
    inputs: LossInputs, base: Float[Tensor, "groups responses tokens"]
) -> Float[Tensor, "groups responses tokens"]:
    """log pi_theta - `base` of each token that takes part. The others are 0, whatever is there, and have no gradient."""
    return torch.where(inputs.active, inputs.logprobs - base, 0)


def log_ratios(inputs: LossInputs) -> Float[Tensor, "groups responses"]:
    """rho_i = log pi_theta(y_i | x) - log pi_old(y_i | x), summed over the response's tokens; 0 for one that is left out."""
    return token_log_ratios(inputs, inputs.old_logprobs).sum(-1)
