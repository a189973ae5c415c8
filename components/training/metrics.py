"""What is measured in each optimizer step, under TRL's names, gathered over micro-batches and ranks."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from components.training.advantages import masked_mean, masked_std
from components.training.objectives.inputs import LossInputs

_SUMS = (
    "groups", "loss", "reward", "reward_std", "equal", "kl", "responses", "length", "clipped", "tokens", "entropy",
    "rho_std", "correlated", "correlation", "difference", "packed",
)  # fmt: skip


def correlation(
    x: Float[Tensor, "groups responses"], y: Float[Tensor, "groups responses"], mask: Bool[Tensor, "groups responses"]
) -> Float[Tensor, " groups"]:
    """Pearson's correlation in each group; NaN where x or y does not vary."""
    dx, dy = x - masked_mean(x, mask)[..., None], y - masked_mean(y, mask)[..., None]
    return masked_mean(dx * dy, mask) / (masked_std(x, mask, 0.0) * masked_std(y, mask, 0.0))


class StepMetrics:
    """Sums over one optimizer step."""

    def __init__(self) -> None:
        self._sums = dict.fromkeys(_SUMS, 0.0)
        self._largest = 0.0

    @torch.no_grad()
    def add(
        self,
        inputs: LossInputs,
        rho: Float[Tensor, "groups responses"],
        *,
        weights: Float[Tensor, " groups"],
        rewards: Float[Tensor, "groups responses"],
        truncated: Bool[Tensor, "groups responses"],
        entropies: Float[Tensor, "groups responses tokens"],
        sampler_logprobs: Float[Tensor, "groups responses tokens"],
        loss: Float[Tensor, " groups"],
        kl: Float[Tensor, " groups"] | None,
        packed_tokens: int,
    ) -> None:
        """Add one micro-batch. A group of weight 0 counts for nothing."""
        real = weights > 0
        there = inputs.tokens.any(-1) & real[:, None]
        tokens = inputs.tokens & real[:, None, None]
        related = correlation(inputs.advantages.double(), rho.double(), inputs.responses)
        related = related[real & inputs.informative & related.isfinite()]
        difference = (inputs.old_logprobs - sampler_logprobs).abs()[tokens]
        sums: dict[str, Any] = {
            "groups": real.sum(),
            "loss": loss[real].sum(),
            "reward": masked_mean(rewards, there)[real].sum(),
            "reward_std": masked_std(rewards, there, 0.0)[real].sum(),
            "equal": (real & ~inputs.informative).sum(),
            "kl": kl[real].sum() if kl is not None else 0.0,
            "responses": there.sum(),
            "length": tokens.sum(),
            "clipped": (truncated & there).sum(),
            "tokens": tokens.sum(),
            "entropy": entropies[tokens].sum(),
            "rho_std": masked_std(rho, inputs.responses, 0.0)[real].sum(),
            "correlated": len(related),
            "correlation": related.sum(),
            "difference": difference.sum(),
            "packed": packed_tokens,
        }
        for name, value in sums.items():
            self._sums[name] += float(value)
        self._largest = max(self._largest, float(difference.max()) if difference.numel() else 0.0)

    def result(self, device: torch.device, *, with_kl: bool) -> tuple[dict[str, float | None], int]:
        """The step's metrics over all ranks (every rank must call it), and the packed tokens it processed."""
        sums = torch.tensor([self._sums[name] for name in _SUMS], dtype=torch.float64, device=device)
        largest = torch.tensor(self._largest, dtype=torch.float64, device=device)
        torch.distributed.all_reduce(sums)
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
        total = dict(zip(_SUMS, sums.tolist(), strict=True))
        groups, responses, tokens = total["groups"], total["responses"], total["tokens"]
        metrics: dict[str, float | None] = {
            "loss": total["loss"] / groups,
            "reward": total["reward"] / groups,
            "reward_std": total["reward_std"] / groups,
            "frac_reward_zero_std": total["equal"] / groups,
            "kl": total["kl"] / groups if with_kl else None,
            "entropy": total["entropy"] / tokens,
            "rho_std": total["rho_std"] / groups,
            "advantage_rho_correlation": total["correlation"] / total["correlated"] if total["correlated"] else None,
            "completions/mean_length": total["length"] / responses,
            "completions/clipped_ratio": total["clipped"] / responses,
            "sampling/sampling_logp_difference/mean": total["difference"] / tokens,
            "sampling/sampling_logp_difference/max": float(largest),
        }
        return metrics, int(total["packed"])
