"""KL(pi_theta || pi_ref) of sampled tokens, by the estimators of Schulman, "Approximating KL Divergence" (2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from components.training.advantages import masked_mean

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

CLAMP = 20.0  # of the log-ratio, so that exp cannot overflow


def token_kl(
    logprobs: Float[Tensor, " *batch"], ref_logprobs: Float[Tensor, " *batch"], estimator: Literal["k1", "k2", "k3"]
) -> Float[Tensor, " *batch"]:
    """KL of each token in nats: k1 = -r, k2 = r^2 / 2, k3 = exp(r) - r - 1 with r = log pi_ref - log pi_theta."""
    ratio = (ref_logprobs - logprobs).clamp(-CLAMP, CLAMP)
    if estimator == "k1":
        return -ratio
    if estimator == "k2":
        return ratio.square() / 2
    return ratio.expm1() - ratio


def group_kl(
    kl: Float[Tensor, "groups responses tokens"],
    tokens: Bool[Tensor, "groups responses tokens"],
    responses: Bool[Tensor, "groups responses"],
) -> Float[Tensor, " groups"]:
    """Mean over a response's tokens, then over the group's responses that take part."""
    return masked_mean(masked_mean(kl, tokens), responses)
