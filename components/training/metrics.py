"""What is measured in each optimizer step, under TRL's names, gathered over micro-batches and ranks."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from components.training.advantages import masked_mean, masked_std
from components.training.kl import CLAMP
from components.training.loss import GroupLosses, squared_gradient_norms
from components.training.objectives.inputs import LossInputs, log_ratios, token_log_ratios
from components.training.objectives.surrogate import clipped
from components.training.settings import TrainingSettings

_SUMS = (
    "groups", "loss", "reward", "reward_std", "equal", "kl", "responses", "length", "clipped", "terminated_length",
    "tokens", "entropy", "rho_std", "correlated", "correlation", "difference", "sequence_ratio", "packed",
    "objective_gradient", "kl_gradient", "ratios", "low_clipped", "high_clipped",
)  # fmt: skip
_MAXIMA = ("difference", "length", "minus_length", "sequence_ratio", "minus_sequence_ratio")


def correlation(
    x: Float[Tensor, "groups responses"], y: Float[Tensor, "groups responses"], mask: Bool[Tensor, "groups responses"]
) -> Float[Tensor, " groups"]:
    """Pearson's correlation in each group; NaN where x or y does not vary."""
    dx, dy = x - masked_mean(x, mask)[..., None], y - masked_mean(y, mask)[..., None]
    return masked_mean(dx * dy, mask) / (masked_std(x, mask, 0.0) * masked_std(y, mask, 0.0))


def clip_counts(
    inputs: LossInputs, settings: TrainingSettings, real: Bool[Tensor, " groups"]
) -> tuple[Tensor, Tensor, Tensor] | None:
    """How many probability ratios there are in the `real` groups, and how many the clip holds at its lower and upper bound.

    The ratios are those of tokens or of responses, as the objective has them; None where it does not clip.
    """
    level = settings.declared.importance_sampling_level
    if level is None or settings.epsilon == 0:
        return None
    if level == "token":
        ratios, advantages = token_log_ratios(inputs, inputs.old_logprobs), inputs.advantages[..., None]
        counted = inputs.active & real[:, None, None]
    else:
        ratios, advantages = log_ratios(inputs), inputs.advantages
        counted = inputs.responses & real[:, None]
    low, high = clipped(ratios, advantages, settings)
    return counted.sum(), (low & counted).sum(), (high & counted).sum()


class StepMetrics:
    """Sums over one optimizer step."""

    def __init__(self, settings: TrainingSettings) -> None:
        self.settings = settings
        self._sums = dict.fromkeys(_SUMS, 0.0)
        self._maxima = torch.full((len(_MAXIMA),), -torch.inf, dtype=torch.float64)

    @torch.no_grad()
    def add(
        self,
        inputs: LossInputs,
        losses: GroupLosses,
        *,
        weights: Float[Tensor, " groups"],
        truncated: Bool[Tensor, "groups responses"],
        entropies: Float[Tensor, "groups responses tokens"],
        sampler_logprobs: Float[Tensor, "groups responses tokens"],
        packed_tokens: int,
    ) -> None:
        """Add one micro-batch. A group of weight 0 counts for nothing."""
        real = weights > 0
        there = inputs.tokens.any(-1) & real[:, None]
        tokens = inputs.tokens & real[:, None, None]
        rho, lengths = log_ratios(inputs), inputs.tokens.sum(-1)[there]
        related = correlation(inputs.advantages.double(), rho.double(), inputs.responses)
        related = related[real & inputs.informative & related.isfinite()]
        mismatch = torch.where(tokens, self._trainers(inputs) - sampler_logprobs, 0)
        difference, ratio = mismatch.abs()[tokens], mismatch.sum(-1)[there].clamp(-CLAMP, CLAMP).exp()
        objective_gradient, kl_gradient = squared_gradient_norms(inputs, self.settings)
        ratios, low, high = clip_counts(inputs, self.settings, real) or (0.0, 0.0, 0.0)
        sums: dict[str, Any] = {
            "groups": real.sum(),
            "loss": losses.loss[real].sum(),
            "reward": masked_mean(inputs.rewards, there)[real].sum(),
            "reward_std": masked_std(inputs.rewards, there, 0.0)[real].sum(),
            "equal": (real & ~inputs.informative).sum(),
            "kl": losses.kl[real].sum() if losses.kl is not None else 0.0,
            "responses": there.sum(),
            "length": tokens.sum(),
            "clipped": (truncated & there).sum(),
            "terminated_length": (tokens & ~truncated[..., None]).sum(),
            "tokens": tokens.sum(),
            "entropy": entropies[tokens].sum(),
            "rho_std": masked_std(rho, inputs.responses, 0.0)[real].sum(),
            "correlated": len(related),
            "correlation": related.sum(),
            "difference": difference.sum(),
            "sequence_ratio": ratio.sum(),
            "packed": packed_tokens,
            "objective_gradient": objective_gradient[real].sum(),
            "kl_gradient": kl_gradient[real].sum(),
            "ratios": ratios,
            "low_clipped": low,
            "high_clipped": high,
        }
        for name, value in sums.items():
            self._sums[name] += float(value)
        if len(lengths):
            extremes = torch.stack([values.max().double() for values in (difference, lengths, -lengths, ratio, -ratio)])
            self._maxima = self._maxima.maximum(extremes.cpu())

    def _trainers(self, inputs: LossInputs) -> Float[Tensor, "groups responses tokens"]:
        """The trainer's own log-probs under the policy that sampled."""
        if self.settings.declared.rollout_policy == "old":
            return inputs.old_logprobs
        assert inputs.ref_logprobs is not None
        return inputs.ref_logprobs

    def result(self, device: torch.device, *, with_kl: bool) -> tuple[dict[str, float | None], int]:
        """The step's metrics over all ranks (every rank must call it), and the packed tokens it processed."""
        sums = torch.tensor([self._sums[name] for name in _SUMS], dtype=torch.float64, device=device)
        maxima = self._maxima.to(device)
        torch.distributed.all_reduce(sums)
        torch.distributed.all_reduce(maxima, torch.distributed.ReduceOp.MAX)
        total = dict(zip(_SUMS, sums.tolist(), strict=True))
        largest = dict(zip(_MAXIMA, maxima.tolist(), strict=True))
        groups, responses, tokens = total["groups"], total["responses"], total["tokens"]
        terminated = responses - total["clipped"]
        metrics: dict[str, float | None] = {
            "loss": total["loss"] / groups,
            "reward": total["reward"] / groups,
            "reward_std": total["reward_std"] / groups,
            "frac_reward_zero_std": total["equal"] / groups,
            "kl": total["kl"] / groups if with_kl else None,
            "entropy": total["entropy"] / tokens,
            "rho_std": total["rho_std"] / groups,
            "advantage_rho_correlation": _mean(total["correlation"], total["correlated"]),
            "logprob_grad_norm/objective": math.sqrt(total["objective_gradient"]) / groups,
            "logprob_grad_norm/kl": math.sqrt(total["kl_gradient"]) / groups,
            "clip_ratio/low_mean": _mean(total["low_clipped"], total["ratios"]),
            "clip_ratio/high_mean": _mean(total["high_clipped"], total["ratios"]),
            "clip_ratio/region_mean": _mean(total["low_clipped"] + total["high_clipped"], total["ratios"]),
            "completions/mean_length": total["length"] / responses,
            "completions/min_length": -largest["minus_length"],
            "completions/max_length": largest["length"],
            "completions/mean_terminated_length": _mean(total["terminated_length"], terminated),
            "completions/clipped_ratio": total["clipped"] / responses,
            "sampling/sampling_logp_difference/mean": total["difference"] / tokens,
            "sampling/sampling_logp_difference/max": largest["difference"],
            "sampling/importance_sampling_ratio/mean": total["sequence_ratio"] / responses,
            "sampling/importance_sampling_ratio/min": -largest["minus_sequence_ratio"],
            "sampling/importance_sampling_ratio/max": largest["sequence_ratio"],
        }
        return metrics, int(total["packed"])


def _mean(total: float, count: float) -> float | None:
    return total / count if count else None
