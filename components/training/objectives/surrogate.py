"""PPO's surrogate (Schulman et al., arXiv 1707.06347, equation 7) of tokens or of whole responses, clipped or not."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from components.training.kl import CLAMP
from components.training.settings import TrainingSettings


def surrogate(
    log_ratios: Float[Tensor, "*batch"], advantages: Float[Tensor, "*#batch"], settings: TrainingSettings
) -> Float[Tensor, "*batch"]:
    """min(r A, clip(r, 1 - epsilon, 1 + epsilon_high) A) with r = exp(log_ratios); r A where epsilon is 0.

    Beyond the KL's clamp, at ratios of e^20 and e^-20, r is constant, so that no log-ratio makes it or its gradient
    infinite.
    """
    ratio = _ratio(log_ratios)
    if settings.epsilon == 0:
        return ratio * advantages
    low, high = _bounds(settings)
    return torch.minimum(ratio * advantages, ratio.clamp(low, high) * advantages)


def clipped(
    log_ratios: Float[Tensor, "*batch"], advantages: Float[Tensor, "*#batch"], settings: TrainingSettings
) -> tuple[Bool[Tensor, "*batch"], Bool[Tensor, "*batch"]]:
    """Where the clip takes the gradient away: at the lower bound, and at the upper one. `epsilon` must not be 0."""
    ratio = _ratio(log_ratios)
    low, high = _bounds(settings)
    return (ratio < low) & (advantages < 0), (ratio > high) & (advantages > 0)


def _ratio(log_ratios: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    return log_ratios.clamp(-CLAMP, CLAMP).exp()


def _bounds(settings: TrainingSettings) -> tuple[float, float]:
    return 1 - settings.epsilon, 1 + (settings.epsilon_high or settings.epsilon)
