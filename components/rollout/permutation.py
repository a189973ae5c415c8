"""The control experiment: rewards that have nothing to do with the responses, with every group's own distribution."""

from __future__ import annotations

from components.shared.context import generator
from components.shared.schemas import Group


def with_permuted_rewards(group: Group, seed: int) -> Group:
    """The group with its responses' rewards (all of a response's together) in a seeded permutation."""
    purpose = f"permute_rewards/{group.augmentation.kind}"
    order = generator(seed, group.round, group.sample_id, purpose).permutation(len(group.responses))
    responses = tuple(
        response.model_copy(update={"rewards": group.responses[i].rewards, "reward": group.responses[i].reward})
        for response, i in zip(group.responses, order, strict=True)
    )
    return group.model_copy(update={"responses": responses})
