"""One group as one packed sequence: the prompt once, then its responses.

Each response attends to the prompt and to itself, and its positions restart after the prompt, so that its log-probs are
those of the row (prompt, response) by itself. A response's last token predicts nothing and is left out.

Shapes: B groups, L packed tokens, G responses, T tokens of the longest response, N response tokens in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from components.shared.policy_inputs import PromptInputs

PROMPT, PADDING = 0, -1  # segments; response i has segment i + 1


@dataclass(frozen=True, eq=False)
class PackedGroup:
    """One group's tokens, where each response token is predicted from, and what it is."""

    input_ids: Int[Tensor, " L"]
    position_ids: Int[Tensor, "3 L"]
    segments: Int[Tensor, " L"]
    sources: Int[Tensor, " N"]  # index of the packed token that predicts it
    targets: Int[Tensor, " N"]  # its id
    response: Int[Tensor, " N"]  # which response it belongs to
    index: Int[Tensor, " N"]  # its place in that response
    responses: int  # G


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """Several packed groups, padded to one length."""

    input_ids: Int[Tensor, "B L"]
    position_ids: Int[Tensor, "3 B L"]
    segments: Int[Tensor, "B L"]
    sources: Int[Tensor, " N"]  # into the flattened B L
    targets: Int[Tensor, " N"]
    cells: Int[Tensor, " N"]  # into the flattened B G T
    tokens: Bool[Tensor, "B G T"]  # where there is a response token

    def to(self, device: torch.device) -> PackedBatch:
        """The same batch on `device`."""
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def pack(prompt: PromptInputs, responses: Sequence[Sequence[int]]) -> PackedGroup:
    """Pack a prompt with its responses' token ids, each of at least one token."""
    length = len(prompt.input_ids)
    ids, positions, segments = [prompt.input_ids], [prompt.position_ids], [torch.full((length,), PROMPT)]
    sources, end = [], length
    for number, response in enumerate(responses):
        inputs = len(response) - 1
        ids.append(torch.tensor(response[:-1], dtype=torch.int64))
        positions.append((prompt.next_position + torch.arange(inputs)).expand(3, -1))
        segments.append(torch.full((inputs,), number + 1))
        sources.append(torch.cat((torch.tensor([length - 1]), end + torch.arange(inputs))))
        end += inputs
    lengths = torch.tensor([len(response) for response in responses])
    return PackedGroup(
        input_ids=torch.cat(ids),
        position_ids=torch.cat(positions, 1),
        segments=torch.cat(segments),
        sources=torch.cat(sources),
        targets=torch.tensor([token for response in responses for token in response], dtype=torch.int64),
        response=torch.arange(len(responses)).repeat_interleave(lengths),
        index=torch.cat([torch.arange(count) for count in lengths.tolist()]),
        responses=len(responses),
    )


def batch(groups: Sequence[PackedGroup]) -> PackedBatch:
    """Pad packed groups to one length, their responses to one count and length."""
    input_ids = pad_sequence([group.input_ids for group in groups], batch_first=True)
    length = input_ids.shape[1]
    responses = max(group.responses for group in groups)
    tokens = max(int(group.index.max()) + 1 for group in groups)
    cells = torch.cat([(row * responses + group.response) * tokens + group.index for row, group in enumerate(groups)])
    present = torch.zeros(len(groups), responses, tokens, dtype=torch.bool)
    present.view(-1)[cells] = True
    return PackedBatch(
        input_ids=input_ids,
        position_ids=pad_sequence([group.position_ids.T for group in groups], batch_first=True).permute(2, 0, 1),
        segments=pad_sequence([group.segments for group in groups], batch_first=True, padding_value=PADDING),
        sources=torch.cat([row * length + group.sources for row, group in enumerate(groups)]),
        targets=torch.cat([group.targets for group in groups]),
        cells=cells,
        tokens=present,
    )


def attention_mask(segments: Int[Tensor, "B L"]) -> Bool[Tensor, "B 1 L L"]:
    """Which tokens each token sees: earlier ones (and itself) of the prompt and of its own response.

    Padding sees what the rule gives it, so that no row is empty; nothing sees padding.
    """
    length = segments.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    seen = segments[:, None, :]
    return (causal & ((seen == PROMPT) | (seen == segments[:, :, None])))[:, None]


def scatter(values: Float[Tensor, " N"], packed: PackedBatch) -> Float[Tensor, "B G T"]:
    """One value a response token, laid out by group and response; 0 where there is no token."""
    flat = values.new_zeros(packed.tokens.numel())
    return flat.scatter(0, packed.cells, values).view(packed.tokens.shape)
