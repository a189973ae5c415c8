"""How packed groups attend: three implementations of one rule, and which one is used for which shape.

The rule: a token sees itself and the earlier tokens of its group that belong to the prompt or to its own response.

- `dense`: one masked attention a group. Computes every pair, so it pays for small groups only.
- `split`: see split_attention.py. Computes the pairs of the rule alone; its kernel is the CPU's.
- `flex`: PyTorch's FlexAttention over the whole sequence, on GPUs. Skips blocks of 128 x 128 that the rule leaves empty.

A model takes one of them through the door that transformers offers: its attention function is looked up by name
(`AttentionInterface`), and is given as `attention_mask` what the model was called with. So one batch's plan is an argument
of one forward pass, and nothing is shared between batches.

Shapes: L tokens, Q query heads, K key heads, D numbers a head.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from components.training.packing import Span
from components.training.split_attention import split_attention

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

Implementation = Literal["dense", "split", "flex"]
# query (1, Q, L, D), key and value (1, K, L, D), scale -> (1, L, Q, D)
Attention = Callable[[Tensor, Tensor, Tensor, float], Tensor]

NAME = "packed_groups"
# On a CPU `split` calls some ten small kernels a response, `dense` computes pairs that nobody needs. They are equally fast
# where there are this many needless multiplications a call.
_NEEDLESS_PER_CALL = 600_000


def choose(spans: Sequence[Span], heads: int, head_dim: int, device: str) -> Implementation:
    """The fastest implementation for a batch of this shape on a `cpu` or `cuda` device."""
    if device != "cpu":
        return "flex"
    needless = sum(span.tokens**2 - _pairs(span) for span in spans) * heads * head_dim
    calls = sum(2 + len(span.responses) for span in spans)
    return "split" if needless > _NEEDLESS_PER_CALL * calls else "dense"


def _pairs(span: Span) -> int:
    """Pairs of the rule."""
    own = sum(length * (length + 1) // 2 for length in span.responses)
    return span.prompt * (span.prompt + 1) // 2 + span.prompt * sum(span.responses) + own


def attention(
    spans: Sequence[Span], implementation: Implementation, dtype: torch.dtype, device: torch.device
) -> Attention:
    """The attention of one batch, for all layers. Raises ValueError on an implementation that is not for the device."""
    wrong = "flex" if device.type == "cpu" else "split"
    if implementation == wrong:
        raise ValueError(f"attention: {wrong} does not train on {device.type}: choose auto or dense")
    if implementation == "split":
        return functools.partial(split_attention, spans=spans)
    return flex(spans, device) if implementation == "flex" else _dense(spans, dtype, device)


def flex(spans: Sequence[Span], device: torch.device) -> Attention:
    """FlexAttention of one batch. On CPUs it has no backward pass."""
    from torch.nn.attention.flex_attention import create_block_mask

    sees, length = rule(spans, device), sum(span.tokens for span in spans)
    mask = create_block_mask(lambda b, h, q, k: sees(q, k), None, None, length, length, device=str(device))
    return functools.partial(_flex_attention, block_mask=mask)


def _dense(spans: Sequence[Span], dtype: torch.dtype, device: torch.device) -> Attention:
    masks = []
    for span in spans:
        index = torch.arange(span.tokens, device=device)
        unseen = ~rule([span], device)(index[:, None], index)
        masks.append(torch.zeros(unseen.shape, dtype=dtype, device=device).masked_fill_(unseen, -torch.inf))
    return functools.partial(_dense_attention, masks=masks)


def rule(
    spans: Sequence[Span], device: torch.device | str = "cpu"
) -> Callable[[Tensor, Tensor], Bool[Tensor, "*shape"]]:
    """Whether the token at index `query` of the packed sequence sees the one at `key`: the rule above, on any shape."""
    parts = [(number, part) for number, span in enumerate(spans) for part in range(1 + len(span.responses))]
    lengths = [length for span in spans for length in (span.prompt, *span.responses)]
    places = torch.tensor(parts, device=device).repeat_interleave(torch.tensor(lengths, device=device), 0)
    group, part = places.unbind(1)

    def sees(query: Int[Tensor, "*shape"], key: Int[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
        own = (part[key] == 0) | (part[key] == part[query])
        return (query >= key) & (group[query] == group[key]) & own

    return sees


def _dense_attention(
    query: Tensor, key: Tensor, value: Tensor, scale: float, *, masks: Sequence[Float[Tensor, "L L"]]
) -> Float[Tensor, "1 L Q D"]:
    lengths = [len(mask) for mask in masks]
    heads = key.shape[1]  # as the kernel's batch: a head of keys serves several of queries without a copy
    outputs = []
    for q, k, v, mask in zip(*(tensor[0].split(lengths, 1) for tensor in (query, key, value)), masks, strict=True):
        q = q.unflatten(0, (heads, -1))
        k, v = (tensor[:, None].expand(-1, q.shape[1], -1, -1) for tensor in (k, v))
        output = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        outputs.append(output.flatten(0, 1).transpose(0, 1))
    return torch.cat(outputs)[None]


def _flex_attention(query: Tensor, key: Tensor, value: Tensor, scale: float, *, block_mask: Any) -> Tensor:
    return _flex(query.device.type)(
        query, key, value, block_mask=block_mask, scale=scale, enable_gqa=query.shape[1] != key.shape[1]
    ).transpose(1, 2)


@functools.cache
def _flex(device: str) -> Any:
    """FlexAttention: compiled on GPUs, because it holds all scores otherwise; as plain PyTorch on CPUs, for checks."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention) if device == "cuda" else flex_attention


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Attention, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """The attention function that transformers' layers call. `attention_mask` is what the model was called with."""
    return attention_mask(query, key, value, scaling), None


def use_packed_attention(language_model: Any) -> None:
    """Make a transformers model attend by the `Attention` that its forward gets as `attention_mask`."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attend)
    language_model.set_attn_implementation(NAME)
