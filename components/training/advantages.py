"""Normalisation inside a group: of rewards it gives the advantages, of log-ratios the predicted advantages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

TOLERANCE = 1e-6  # rewards that differ by less are equal


def masked_mean(values: Float[Tensor, "*batch n"], mask: Bool[Tensor, "*batch n"]) -> Float[Tensor, " *batch"]:
    """Mean over the last axis where `mask`; 0 where it is nowhere."""
    return torch.where(mask, values, 0).sum(-1) / mask.sum(-1).clamp(min=1)


def masked_std(
    values: Float[Tensor, "*batch n"], mask: Bool[Tensor, "*batch n"], std_floor: float
) -> Float[Tensor, " *batch"]:
    """sqrt(population variance + std_floor^2) over the last axis where `mask`; its gradient is always finite."""
    deviations = values - masked_mean(values, mask)[..., None]
    return (masked_mean(deviations.square(), mask) + std_floor**2).sqrt()


def normalised(
    values: Float[Tensor, "groups responses"], responses: Bool[Tensor, "groups responses"], std_floor: float
) -> Float[Tensor, "groups responses"]:
    """(x - mean) / sqrt(var + std_floor^2) over a group's responses that take part; 0 for those that do not."""
    deviations = values - masked_mean(values, responses)[..., None]
    return torch.where(responses, deviations / masked_std(values, responses, std_floor)[..., None], 0)


def leave_one_out(
    rewards: Float[Tensor, "groups responses"], responses: Bool[Tensor, "groups responses"]
) -> Float[Tensor, "groups responses"]:
    """R_i - mean_{j != i} R_j over a group's responses that take part, 0 for those that do not, and for one alone."""
    count = responses.sum(-1, keepdim=True)
    deviations = torch.where(responses, rewards - masked_mean(rewards, responses)[..., None], 0)
    return deviations * count / (count - 1).clamp(min=1)


def informative(
    rewards: Float[Tensor, "groups responses"], responses: Bool[Tensor, "groups responses"]
) -> Bool[Tensor, " groups"]:
    """Whether a group's rewards differ by more than a tolerance; False for fewer than two responses that take part."""
    highest = rewards.masked_fill(~responses, -torch.inf).amax(-1)
    lowest = rewards.masked_fill(~responses, torch.inf).amin(-1)
    return (responses.sum(-1) >= 2) & (highest - lowest > TOLERANCE)
