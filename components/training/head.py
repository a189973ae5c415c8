"""The language model's head where it is trained: from hidden states to log-probs, a chunk of positions at a time.

Logits in bf16 are rounded to multiples of 1/16 and more; summed over a response that drowns the log-ratios. So logits,
log-softmax and sums are fp32 (or fp64), whatever the weight's type. Only a chunk's logits exist at any time, forward and
backward: what is kept for backward are the hidden states and a number a position.

Shapes: N positions, H hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class ScoringHead(nn.Module):
    """Takes the place of a model's `lm_head`, whose weight it shares, and scores given tokens."""

    def __init__(self, head: nn.Linear, chunk: int) -> None:
        """`chunk`: positions whose logits are held at a time."""
        super().__init__()
        self.weight = head.weight  # may be tied to the embedding
        self.chunk = chunk

    def forward(
        self, hidden: Float[Tensor, "N H"], targets: Int[Tensor, " N"], banned: Int[Tensor, " banned"]
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """Log-probs of `targets`, and the distributions' entropies (nats, without gradient), without the `banned` ids."""
        scores: tuple[Tensor, Tensor] = _Score.apply(hidden, self.weight, targets, banned, self.chunk)
        return scores


class _Score(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, banned: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor]:
        exact = weight.to(_precise(weight))
        logprobs, entropies, totals = (exact.new_empty(len(hidden)) for _ in range(3))
        for part in _chunks(len(hidden), chunk):
            logits = _logits(hidden[part], exact, banned)
            totals[part] = logits.logsumexp(-1)
            logits -= totals[part, None]
            logprobs[part] = logits.gather(-1, targets[part, None])[:, 0]
            entropies[part] = -(logits.exp().mul_(logits)).sum(-1)
        ctx.save_for_backward(hidden, weight, targets, banned, totals)
        ctx.chunk = chunk
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """By the logits: gradient * (one-hot of the target - softmax)."""
        hidden, weight, targets, banned, totals = ctx.saved_tensors
        exact = weight.to(_precise(weight))
        by_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        by_weight = torch.zeros_like(exact) if ctx.needs_input_grad[1] else None
        for part in _chunks(len(hidden), ctx.chunk):
            logits = _logits(hidden[part], exact, banned)
            by_logits = logits.sub_(totals[part, None]).exp_().mul_(-gradient[part, None])
            by_logits.scatter_add_(-1, targets[part, None], gradient[part, None])
            if by_hidden is not None:
                by_hidden[part] = by_logits @ exact
            if by_weight is not None:
                by_weight.addmm_(by_logits.T, hidden[part].to(exact))
        return by_hidden, None if by_weight is None else by_weight.to(weight), None, None, None


def _precise(weight: Tensor) -> torch.dtype:
    return torch.promote_types(weight.dtype, torch.float32)


def _chunks(count: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]


def _logits(hidden: Tensor, weight: Tensor, banned: Tensor) -> Float[Tensor, "n V"]:
    logits = hidden.to(weight) @ weight.T
    return logits.index_fill_(-1, banned, torch.finfo(logits.dtype).min)
