"""A group packed as its prompt once and then its responses; several groups stand end to end in one sequence.

Each response attends to its prompt and to itself, and its positions restart after the prompt, so that its log-probs are
those of the row (prompt, response) by itself. A response's last token predicts nothing and is left out. Nothing is padded.

Shapes: B groups, L packed tokens, G responses, T tokens of the longest response, N response tokens in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from components.shared.policy_inputs import PromptInputs


@dataclass(frozen=True)
class Span:
    """How many packed tokens a group's prompt and each of its responses have; a response of one token has none."""

    prompt: int
    responses: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """All of the group's."""
        return self.prompt + sum(self.responses)


@dataclass(frozen=True, eq=False)
class PackedGroup:
    """One group's tokens, where each response token is predicted from, and what it is."""

    input_ids: Int[Tensor, " L"]
    position_ids: Int[Tensor, "3 L"]
    span: Span
    sources: Int[Tensor, " N"]  # index of the packed token that predicts it
    targets: Int[Tensor, " N"]  # its id
    response: Int[Tensor, " N"]  # which response it belongs to
    index: Int[Tensor, " N"]  # its place in that response


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """Packed groups end to end."""

    input_ids: Int[Tensor, " L"]
    position_ids: Int[Tensor, "3 L"]
    spans: tuple[Span, ...]  # B of them
    sources: Int[Tensor, " N"]
    targets: Int[Tensor, " N"]
    cells: Int[Tensor, " N"]  # into the flattened B G T
    tokens: Bool[Tensor, "B G T"]  # where there is a response token

    def to(self, device: torch.device) -> PackedBatch:
        """The same batch on `device`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value.to(device) for name, value in values.items() if name != "spans"})


def packed_tokens(prompt: int, responses: Sequence[int]) -> int:
    """Packed tokens of a group whose prompt and responses have these lengths."""
    return prompt + sum(length - 1 for length in responses)


def pack(prompt: PromptInputs, responses: Sequence[Sequence[int]]) -> PackedGroup:
    """Pack a prompt with its responses' token ids, each of at least one token."""
    length = len(prompt.input_ids)
    ids, positions, sources, end = [prompt.input_ids], [prompt.position_ids], [], length
    for response in responses:
        inputs = len(response) - 1
        ids.append(torch.tensor(response[:-1], dtype=torch.int64))
        positions.append((prompt.next_position + torch.arange(inputs)).expand(3, -1))
        sources.append(torch.cat((torch.tensor([length - 1]), end + torch.arange(inputs))))
        end += inputs
    lengths = torch.tensor([len(response) for response in responses])
    return PackedGroup(
        input_ids=torch.cat(ids),
        position_ids=torch.cat(positions, 1),
        span=Span(length, tuple(len(response) - 1 for response in responses)),
        sources=torch.cat(sources),
        targets=torch.tensor([token for response in responses for token in response], dtype=torch.int64),
        response=torch.arange(len(responses)).repeat_interleave(lengths),
        index=torch.cat([torch.arange(count) for count in lengths.tolist()]),
    )


def batch(groups: Sequence[PackedGroup]) -> PackedBatch:
    """Packed groups end to end; the log-probs are laid out for the largest number of responses and of tokens."""
    responses = max(len(group.span.responses) for group in groups)
    tokens = max(max(group.span.responses) for group in groups) + 1
    cells = torch.cat([(row * responses + group.response) * tokens + group.index for row, group in enumerate(groups)])
    present = torch.zeros(len(groups), responses, tokens, dtype=torch.bool)
    present.view(-1)[cells] = True
    starts = torch.tensor([0, *(group.span.tokens for group in groups)]).cumsum(0).tolist()
    return PackedBatch(
        input_ids=torch.cat([group.input_ids for group in groups]),
        position_ids=torch.cat([group.position_ids for group in groups], 1),
        spans=tuple(group.span for group in groups),
        sources=torch.cat([start + group.sources for start, group in zip(starts, groups, strict=False)]),
        targets=torch.cat([group.targets for group in groups]),
        cells=cells,
        tokens=present,
    )


def scatter(values: Float[Tensor, " N"], packed: PackedBatch) -> Float[Tensor, "B G T"]:
    """One value a response token, laid out by group and response; 0 where there is no token."""
    flat = values.new_zeros(packed.tokens.numel())
    return flat.scatter(0, packed.cells, values).view(packed.tokens.shape)
