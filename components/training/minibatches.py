"""Which groups make up which optimizer step, rank and forward pass: fixed for a round, the same in every pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.shared.context import generator


@dataclass(frozen=True)
class MicroBatch:
    """Groups of one forward pass, by index. One that only keeps the ranks in step has weight 0."""

    groups: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Minibatch:
    """One optimizer step: `ranks[r]` are the forward passes of rank r, equally many on each."""

    ranks: tuple[tuple[MicroBatch, ...], ...]
    groups: int  # on all ranks together

    def indices(self) -> list[int]:
        """The groups of all ranks, by index, each once."""
        micros = [micro for rank in self.ranks for micro in rank]
        return [i for micro in micros for i, weight in zip(micro.groups, micro.weights, strict=True) if weight]


def plan(
    tokens: Sequence[int], *, steps: int, world_size: int, micro_batch_groups: int, seed: int, round_index: int
) -> tuple[Minibatch, ...]:
    """Deal groups of `tokens` packed tokens out to `steps` optimizer steps (fewer if there are fewer groups).

    The groups are shuffled by (seed, round) and cut into equal parts; within a part each rank gets equally many groups
    and about equally many tokens.
    """
    order = generator(seed, round_index, "", "training order").permutation(len(tokens))
    parts = np.array_split(order, min(steps, len(tokens)))
    return tuple(_minibatch([int(i) for i in part], tokens, world_size, micro_batch_groups) for part in parts)


def _minibatch(groups: list[int], tokens: Sequence[int], world_size: int, size: int) -> Minibatch:
    longest_first = sorted(groups, key=lambda i: (-tokens[i], i))
    count = -(-len(groups) // world_size)
    hands: list[list[int]] = [[] for _ in range(world_size)]
    for group in longest_first:  # to the rank with the fewest tokens among those that have room
        open_hands = [hand for hand in hands if len(hand) < count]
        min(open_hands, key=lambda hand: sum(tokens[i] for i in hand)).append(group)
    ranks = []
    for hand in hands:
        missing = count - len(hand)
        dealt = [*hand, *[longest_first[-1]] * missing]
        weights = [1.0] * len(hand) + [0.0] * missing
        ranks.append(
            tuple(
                MicroBatch(tuple(dealt[i : i + size]), tuple(weights[i : i + size])) for i in range(0, len(dealt), size)
            )
        )
    return Minibatch(tuple(ranks), len(groups))
