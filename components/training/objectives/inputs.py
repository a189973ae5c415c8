"""What every objective is a function of."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LossInputs:
    """Some whole groups, their responses padded to the same count and length. Padding is 0 in every log-prob."""

    logprobs: Float[Tensor, "groups responses tokens"]  # of pi_theta, with gradient
    old_logprobs: Float[Tensor, "groups responses tokens"]  # of pi_old, the policy at the round's start
    tokens: Bool[Tensor, "groups responses tokens"]  # where there is a token
    responses: Bool[Tensor, "groups responses"]  # which responses take part
    advantages: Float[Tensor, "groups responses"]  # 0 where a response does not take part
    informative: Bool[Tensor, " groups"]  # False where the rewards are all equal
