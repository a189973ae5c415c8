"""Which samples a round takes: the train split in a seeded permutation an epoch, a slice a round."""

from __future__ import annotations

from collections.abc import Sequence

from components.shared.context import generator


def round_ids(sample_ids: Sequence[str], seed: int, round_index: int, count: int) -> list[str]:
    """The ids of round `round_index` (from 1), in the round's order.

    Every sample comes once an epoch. A round that an epoch's end falls into goes on with the next epoch; the samples it
    has already are moved to the end of its share there, so that no round has one twice. Where there are fewer than
    `count` samples, every round takes them all.
    """
    if round_index < 1:
        raise ValueError(f"rounds count from 1, got {round_index}")
    ids = sorted(sample_ids)
    count = min(count, len(ids))
    end = round_index * count
    order: list[str] = []
    epoch = 0
    while len(order) < end:
        shuffled = [ids[i] for i in generator(seed, epoch, "", "selection").permutation(len(ids))]
        begun = len(order) % count  # samples of the round that the last epoch ended in
        taken = set(order[len(order) - begun :])
        order += _without_first(shuffled, taken, count - begun) if taken else shuffled
        epoch += 1
    return order[end - count : end]


def _without_first(shuffled: Sequence[str], taken: set[str], head: int) -> list[str]:
    """`shuffled` with none of `taken` among the first `head`, otherwise in its order."""
    first = [name for name in shuffled if name not in taken][:head]
    chosen = set(first)
    return first + [name for name in shuffled if name not in chosen]
