"""Which questions of a dataset are asked."""

from __future__ import annotations

from components.shared.context import derived_seed
from components.shared.dataset import DatasetReader
from components.shared.schemas import TRAIN_SPLIT, TUNING_SPLIT, Sample


def chosen_levels(reader: DatasetReader, levels: tuple[str, ...]) -> list[str]:
    """The levels to evaluate, sorted. Raises ValueError if one is unknown or trained on, or if there is none at all."""
    splits = reader.splits()
    held_out = [split for split in splits if split not in (TRAIN_SPLIT, TUNING_SPLIT)]
    unknown = sorted(set(levels) - set(held_out))
    if unknown:
        raise ValueError(
            f"evaluation.levels: {unknown} cannot be evaluated; the dataset's held-out splits are {held_out}"
        )
    if not held_out:
        raise ValueError(
            f"the dataset has no held-out split to evaluate, only {splits}: give some samples another split"
        )
    return sorted(levels) or held_out


def chosen_questions(reader: DatasetReader, levels: list[str], per_level: int, seed: int) -> list[Sample]:
    """The questions of the levels, level after level; with `per_level` > 0 the first ones of a seeded order of each."""
    chosen: list[Sample] = []
    for level in levels:
        samples = sorted(reader.samples(level), key=lambda sample: sample.id)
        if per_level:
            samples.sort(key=lambda sample: (derived_seed(seed, 0, sample.id, "evaluation order"), sample.id))
            samples = samples[:per_level]
        chosen += samples
    return chosen
