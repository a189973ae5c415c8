"""Attention over packed groups without a mask: what a dense mask would compute and throw away is never computed.

A group has three parts: its prompt attends to itself (causal), all of its responses' tokens attend to the prompt (full),
and each response attends to itself (causal). A response token's softmax runs over two sets of keys. With o1, o2 its
outputs over each and l1, l2 the log-sum-exps of its scores, over both it is

    l = log(exp(l1) + exp(l2)),    o = exp(l1 - l) o1 + exp(l2 - l) o2.

Backward, a softmax's gradient by its scores is p (dp - sum(do o)) with p = exp(score - l): given o and l of both sets
together, each set's gradients follow from its own keys alone, which is what PyTorch's kernel computes. (Dao et al.,
FlashAttention, arXiv 2205.14135, appendix B.) Neither the scores nor copies of the prompt's keys are held.

Shapes: L tokens, Q query heads, K key heads, R = Q / K, D numbers a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from components.training.packing import Span

if TYPE_CHECKING:
    from jaxtyping import Float

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def split_attention(
    query: Float[Tensor, "1 Q L D"],
    key: Float[Tensor, "1 K L D"],
    value: Float[Tensor, "1 K L D"],
    scale: float,
    spans: Sequence[Span],
) -> Float[Tensor, "1 L Q D"]:
    """The attention of packed groups, on a CPU. Its result is the same every time, bit for bit."""
    attended: Tensor = _SplitAttention.apply(query, key, value, scale, spans)
    return attended


class _SplitAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float, spans: Sequence[Span]) -> Tensor:
        result = query.new_empty(1, query.shape[2], query.shape[1], query.shape[3])
        out = _heads(result.transpose(1, 2), key.shape[1])
        total = torch.empty(*out.shape[:3], dtype=torch.promote_types(query.dtype, torch.float32))
        q, k, v = _views(query, key, value)
        for prompt, responses, each in _parts(spans):
            for part in (prompt, *each):
                out[:, :, part], total[:, :, part] = _forward(
                    q[:, :, part], k[:, :, part], v[:, :, part], 0.0, True, scale=scale
                )
            if each:
                seen, over = _forward(q[:, :, responses], k[:, :, prompt], v[:, :, prompt], 0.0, False, scale=scale)
                both = torch.logaddexp(total[:, :, responses], over)
                own = out[:, :, responses] * (total[:, :, responses] - both).exp_()[..., None]
                out[:, :, responses] = own.addcmul_(seen, (over - both).exp_()[..., None].to(own))
                total[:, :, responses] = both
        ctx.save_for_backward(query, key, value, result, total)
        ctx.scale, ctx.spans = scale, spans
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, result, total = ctx.saved_tensors
        gradients = tuple(torch.empty_like(tensor) for tensor in (query, key, value))
        dq, dk, dv = (_heads(tensor, key.shape[1]) for tensor in gradients)
        q, k, v = _views(query, key, value)
        do, out = (_heads(tensor.transpose(1, 2), key.shape[1]) for tensor in (gradient.contiguous(), result))

        def back(queries: slice, keys: slice, causal: bool) -> tuple[Tensor, Tensor, Tensor]:
            by_query, by_key, by_value = _backward(
                do[:, :, queries], q[:, :, queries], k[:, :, keys], v[:, :, keys], out[:, :, queries],
                total[:, :, queries], 0.0, causal, scale=ctx.scale,
            )  # fmt: skip
            return by_query, by_key.sum(1, keepdim=True), by_value.sum(1, keepdim=True)

        for prompt, responses, each in _parts(ctx.spans):
            for part in (prompt, *each):
                dq[:, :, part], dk[:, :, part], dv[:, :, part] = back(part, part, causal=True)
            if each:
                by_query, by_key, by_value = back(responses, prompt, causal=False)
                dq[:, :, responses] += by_query
                dk[:, :, prompt] += by_key
                dv[:, :, prompt] += by_value
        return *gradients, None, None


def _heads(tensor: Float[Tensor, "1 heads L D"], key_heads: int) -> Float[Tensor, "K heads/K L D"]:
    """A view: the kernel's batch are the key heads."""
    return tensor[0].unflatten(0, (key_heads, -1))


def _views(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each (K, R, L, D): a head of keys serves its R heads of queries without a copy."""
    q = _heads(query, key.shape[1])
    k, v = (_heads(tensor, key.shape[1]).expand(-1, q.shape[1], -1, -1) for tensor in (key, value))
    return q, k, v


def _parts(spans: Sequence[Span]) -> Iterator[tuple[slice, slice, list[slice]]]:
    """Each group's places: of its prompt, of its responses together, and of each that has tokens."""
    start = 0
    for span in spans:
        prompt = slice(start, start + span.prompt)
        start = end = prompt.stop
        each = []
        for length in span.responses:
            end += length
            if length:
                each.append(slice(end - length, end))
        yield prompt, slice(start, end), each
        start = end
