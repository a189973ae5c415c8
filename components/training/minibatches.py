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
    """One optimizer step: `ranks[r]` are the forward passes of rank r, equally many on each rank."""

    ranks: tuple[tuple[MicroBatch, ...], ...]
    groups: int  # on all ranks together

    def indices(self) -> list[int]:
        """The groups of all ranks, by index, each once."""
        micros = [micro for rank in self.ranks for micro in rank]
        return [i for micro in micros for i, weight in zip(micro.groups, micro.weights, strict=True) if weight]


def plan(
    tokens: Sequence[int], *, steps: int, world_size: int, micro_batch_tokens: int, seed: int, round_index: int
) -> tuple[Minibatch, ...]:
    """Deal groups of `tokens` packed tokens out to `steps` optimizer steps (fewer if there are fewer groups).

    The groups are shuffled by (seed, round) and cut into equal parts; within a part each rank gets about equally many
    tokens. Groups share a forward pass as long as they have at most `micro_batch_tokens` together.
    """
    order = generator(seed, round_index, "", "training order").permutation(len(tokens))
    parts = np.array_split(order, min(steps, len(tokens)))
    return tuple(_minibatch([int(i) for i in part], tokens, world_size, micro_batch_tokens) for part in parts)


def _minibatch(groups: list[int], tokens: Sequence[int], world_size: int, budget: int) -> Minibatch:
    longest_first = sorted(groups, key=lambda i: (-tokens[i], i))
    count = -(-len(groups) // world_size)
    hands: list[list[int]] = [[] for _ in range(world_size)]
    for group in longest_first:  # to the rank with the fewest tokens among those that have room
        open_hands = [hand for hand in hands if len(hand) < count]
        min(open_hands, key=lambda hand: sum(tokens[i] for i in hand)).append(group)
    filled = [fill(hand, tokens, budget) for hand in hands]
    passes = max(map(len, filled))  # each is a collective call: ranks with fewer make more of what they have
    idle = MicroBatch((longest_first[-1],), (0.0,))
    ranks = []
    for micros in filled:
        _halve_to(micros, passes, tokens)
        micros.sort(key=lambda micro: -_sum(micro, tokens))  # so that ranks do their long ones at the same time
        made = [MicroBatch(tuple(micro), (1.0,) * len(micro)) for micro in micros]
        ranks.append((*made, *[idle] * (passes - len(made))))
    return Minibatch(tuple(ranks), len(groups))


def fill(hand: Sequence[int], tokens: Sequence[int], budget: int) -> list[list[int]]:
    """Groups, longest first, each into the first micro-batch with room for it; one above the budget has its own."""
    micros: list[list[int]] = []
    for group in hand:
        room = (micro for micro in micros if _sum(micro, tokens) + tokens[group] <= budget)
        if (micro := next(room, None)) is None:
            micros.append([group])
        else:
            micro.append(group)
    return micros


def _halve_to(micros: list[list[int]], count: int, tokens: Sequence[int]) -> None:
    """Cut the largest micro-batches of several groups in two until there are `count`, or nothing is left to cut."""
    while len(micros) < count and (several := [micro for micro in micros if len(micro) > 1]):
        largest = max(several, key=lambda micro: _sum(micro, tokens))
        micros.append(largest[1::2])
        del largest[1::2]


def _sum(groups: Sequence[int], tokens: Sequence[int]) -> int:
    return sum(tokens[i] for i in groups)
