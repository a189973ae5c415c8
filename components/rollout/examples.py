"""A few rollouts for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from components.shared.dataset import DatasetReader
from components.shared.sampling.metrics import mean_reward
from components.shared.schemas import Group

_EACH = 2  # of each kind of augmentation, none among them
_RESPONSES = 4  # shown of a group


def example_rollouts(
    groups: Sequence[Group], before: Mapping[str, Group], reader: DatasetReader
) -> list[dict[str, object]]:
    """The first two groups of each kind of augmentation and of none, in the round's order. `before` are un-augmented."""
    chosen = []
    left = {"hint": _EACH, "noise": _EACH, "mask": _EACH, "none": _EACH}
    for group in groups:
        if left[group.augmentation.kind] > 0:
            left[group.augmentation.kind] -= 1
            chosen.append(group)
    return [_example(group, before[group.sample_id], reader) for group in chosen]


def _example(group: Group, before: Group, reader: DatasetReader) -> dict[str, object]:
    sample = reader.sample(group.sample_id)
    return {
        "sample_id": sample.id,
        "video": sample.video,
        "question": sample.question,
        "options": list(sample.options),
        "answer": sample.answer,
        "augmentation": group.augmentation.model_dump(),
        "texts": [response.text for response in group.responses[:_RESPONSES]],
        "rewards": [response.rewards for response in group.responses[:_RESPONSES]],
        "mean_reward": mean_reward(group),
        "mean_reward_unaugmented": mean_reward(before),
    }
