"""Many responses at a time with a key-value cache: the tiny model's decoding, several times as fast as a serving engine.

The prompt is read by the transformers model itself; what follows, one token a row and step, is written out here, because
at 1.5 M parameters the time goes into everything but the arithmetic. The G responses of a prompt share its keys and values.

Shapes: P prompts, G rows a prompt, L tokens of the longest prompt, T tokens of the longest response, K key-value heads,
Q query heads a key-value head, d numbers a head, H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

_KEEP = 0.5  # rows are gathered anew when no more than this share of them goes on


@dataclass(frozen=True, eq=False)
class Encoded:
    """A prompt as the language model takes it."""

    input_ids: Int[Tensor, " L"]
    position_ids: Int[Tensor, "3 L"]
    features: Float[Tensor, "V hidden"]  # the vision tower's, in the order in which their pads stand

    @property
    def next_position(self) -> int:
        """The position of the first response token."""
        return int(self.position_ids.max()) + 1


class Row(NamedTuple):
    """One response: its token ids, and their log-probs under the distribution that they were drawn from."""

    token_ids: list[int]
    logprobs: list[float]


class _Layer(NamedTuple):
    norm: Tensor
    qkv: Tensor
    bias: Tensor
    out: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor


@dataclass(eq=False)
class _Cache:
    """Per layer: keys and values of prompts (P, K, L, d) and of responses (P, K, G, T, d), both already rotated."""

    prompt: list[tuple[Tensor, Tensor]]
    response: list[tuple[Tensor, Tensor]]
    padding: Tensor  # (P, 1, 1, 1, L), -inf where a prompt has no token
    start: Tensor  # (P,), the position of the first response token

    def only(self, prompts: Tensor, rows: Tensor) -> _Cache:
        """The cache of the rows (prompts[i], rows[i]) alone, each a prompt of its own from now on."""
        return _Cache(
            [(keys[prompts], values[prompts]) for keys, values in self.prompt],
            [
                (keys[prompts, :, rows][:, :, None], values[prompts, :, rows][:, :, None])
                for keys, values in self.response
            ],
            self.padding[prompts],
            self.start[prompts],
        )


class Decoder:
    """The language model of a Qwen2.5-VL, as its weights are when this is made."""

    def __init__(self, model: Any, banned: Sequence[int], ends: Sequence[int]) -> None:
        self.model = model
        text = model.config.get_text_config()
        self.key_heads, self.eps = text.num_key_value_heads, text.rms_norm_eps
        self.queries = text.num_attention_heads // self.key_heads
        self.head = text.hidden_size // text.num_attention_heads
        self.banned, self.ends = torch.tensor(banned), torch.tensor(ends)
        language = model.model.language_model
        self.embedding, self.norm = language.embed_tokens.weight.detach(), language.norm.weight.detach()
        self.lm_head = model.lm_head.weight.detach()
        self.layers = [_fused(layer) for layer in language.layers]

    @torch.inference_mode()
    def respond(
        self, prompts: Sequence[Encoded], uniforms: Float[np.ndarray, "P G T"] | None, longest: int, temperature: float
    ) -> list[list[Row]]:
        """The responses to each prompt, of at most `longest` tokens, the end token included.

        Token t of row g of prompt p is the inverse distribution function at `uniforms`[p, g, t]; without uniforms there is
        one row a prompt, and it takes the likeliest token.
        """
        count = 1 if uniforms is None else uniforms.shape[1]
        cache, hidden = self._read(prompts, count, longest)
        hidden = hidden[:, None].expand(-1, count, -1)
        rows = [[Row([], []) for _ in range(count)] for _ in prompts]
        alive = [row for group in rows for row in group]  # in the order of the cache's rows
        draws = None if uniforms is None else torch.from_numpy(uniforms).flatten(0, 1)
        for step in range(longest):
            logprobs = self._logprobs(hidden, temperature).flatten(0, 1)
            tokens = logprobs.argmax(-1) if draws is None else drawn(logprobs, draws[:, step])
            chosen = logprobs.gather(-1, tokens[:, None])[:, 0]
            open_rows = []
            ended = torch.isin(tokens, self.ends).tolist()
            for index, (row, token, logprob) in enumerate(zip(alive, tokens.tolist(), chosen.tolist(), strict=True)):
                if row.token_ids and row.token_ids[-1] in self._end_ids():
                    continue
                row.token_ids.append(token)
                row.logprobs.append(logprob)
                if not ended[index]:
                    open_rows.append(index)
            if not open_rows or step + 1 == longest:
                break
            width = hidden.shape[1]
            if len(open_rows) <= _KEEP * len(alive):
                kept = torch.tensor(open_rows)
                cache, tokens = cache.only(kept // width, kept % width), tokens[kept]
                draws = None if draws is None else draws[kept]
                alive, width = [alive[index] for index in open_rows], 1
            hidden = self._next(tokens.view(-1, width), step, cache)
        return rows

    def _end_ids(self) -> set[int]:
        return set(self.ends.tolist())

    def _read(self, prompts: Sequence[Encoded], count: int, longest: int) -> tuple[_Cache, Float[Tensor, "P H"]]:
        """The prompts' keys and values, room for those of `count` responses each, and the last token's hidden state."""
        from transformers import DynamicCache

        language, config = self.model.model.language_model, self.model.config
        ids = pad_sequence([prompt.input_ids for prompt in prompts], batch_first=True)
        lengths = torch.tensor([len(prompt.input_ids) for prompt in prompts])
        positions = pad_sequence([prompt.position_ids.T for prompt in prompts], batch_first=True).permute(2, 0, 1)
        length = ids.shape[1]
        there = torch.arange(length) < lengths[:, None]
        embeddings = F.embedding(ids, self.embedding)
        pads = ((ids == config.video_token_id) | (ids == config.image_token_id)) & there
        embeddings = embeddings.masked_scatter(pads[..., None], torch.cat([prompt.features for prompt in prompts]))
        read = DynamicCache()
        hidden = language(
            inputs_embeds=embeddings,
            position_ids=positions,
            attention_mask={"full_attention": _causal},  # a packed policy's attention is what it is called with
            past_key_values=read,
            use_cache=True,
        ).last_hidden_state[torch.arange(len(prompts)), lengths - 1]
        padding = torch.zeros(there.shape).masked_fill(~there, -torch.inf)[:, None, None, None]
        shape = (len(prompts), self.key_heads, count, longest, self.head)
        cache = _Cache(
            [(layer.keys, layer.values) for layer in read.layers],
            [(torch.empty(shape), torch.empty(shape)) for _ in self.layers],
            padding,
            torch.tensor([prompt.next_position for prompt in prompts]),
        )
        return cache, hidden

    def _logprobs(self, hidden: Float[Tensor, "P G H"], temperature: float) -> Float[Tensor, "P G V"]:
        logits = F.linear(hidden, self.lm_head).index_fill(-1, self.banned, -torch.inf)
        return (logits / temperature if temperature else logits).log_softmax(-1)

    def _next(self, tokens: Int[Tensor, "P G"], step: int, cache: _Cache) -> Float[Tensor, "P G H"]:
        """The hidden states after response token `step` (from 0) of every row."""
        (prompts, rows), heads, queries, head = tokens.shape, self.key_heads, self.queries, self.head
        at = (cache.start + step).expand(3, 1, -1)
        cos, sin = (table[0][:, None, None] for table in self.model.model.language_model.rotary_emb(self.norm, at))
        x = F.embedding(tokens, self.embedding)
        width, length = x.shape[-1], cache.padding.shape[-1]
        for number, layer in enumerate(self.layers):
            mixed = F.linear(self._normed(x, layer.norm), layer.qkv, layer.bias)
            mixed = mixed.view(prompts, rows, (queries + 2) * heads, head)
            turned, values = mixed.split([(queries + 1) * heads, heads], 2)
            turned = turned * cos + _rotated(turned) * sin
            query, keys = turned.split([queries * heads, heads], 2)
            query = query.reshape(prompts, rows, heads, queries, head).permute(0, 2, 1, 3, 4) * head**-0.5
            own_keys, own_values = cache.response[number]
            own_keys[..., step, :] = keys.transpose(1, 2)
            own_values[..., step, :] = values.transpose(1, 2)
            own_keys, own_values = own_keys[..., : step + 1, :], own_values[..., : step + 1, :]
            prompt_keys, prompt_values = cache.prompt[number]
            shared = query.reshape(prompts, heads, rows * queries, head) @ prompt_keys.transpose(-1, -2)
            shared = shared.view(prompts, heads, rows, queries, length) + cache.padding
            weights = torch.cat((shared, query @ own_keys.transpose(-1, -2)), -1).softmax(-1)
            seen = weights[..., :length].reshape(prompts, heads, rows * queries, length) @ prompt_values
            seen = seen.view(prompts, heads, rows, queries, head) + weights[..., length:] @ own_values
            x = x + F.linear(seen.permute(0, 2, 1, 3, 4).reshape(prompts, rows, width), layer.out)
            gate, up = F.linear(self._normed(x, layer.mlp_norm), layer.gate_up).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, layer.down)
        return self._normed(x, self.norm)

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, self.eps)


def _fused(layer: Any) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    return _Layer(
        norm=layer.input_layernorm.weight.detach(),
        qkv=torch.cat([projection.weight.detach() for projection in projections]),
        bias=torch.cat([projection.bias.detach() for projection in projections]),
        out=attention.o_proj.weight.detach(),
        mlp_norm=layer.post_attention_layernorm.weight.detach(),
        gate_up=torch.cat([mlp.gate_proj.weight.detach(), mlp.up_proj.weight.detach()]),
        down=mlp.down_proj.weight.detach(),
    )


def _causal(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Float[Tensor, "P L Q D"]:
    """Every token sees itself and the earlier ones. Prompts are padded at their ends, where nobody looks."""
    key, value = (given.repeat_interleave(query.shape[1] // given.shape[1], 1) for given in (key, value))
    return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale).transpose(1, 2)


def _rotated(x: Tensor) -> Tensor:
    one, two = x.chunk(2, -1)
    return torch.cat((-two, one), -1)


def drawn(logprobs: Float[Tensor, "N V"], uniforms: Float[Tensor, " N"]) -> Int[Tensor, " N"]:
    """The id at which each row's distribution function passes its uniform number in [0, 1)."""
    sums = logprobs.double().exp().cumsum(-1)
    return torch.searchsorted(sums, uniforms[:, None] * sums[:, -1:], right=True)[:, 0]
