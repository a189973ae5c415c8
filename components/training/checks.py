"""What groups must be before a training process is started for them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from components.shared.schemas import ArtifactRef, Group
from components.training.objectives import OBJECTIVES, ObjectiveName


def check_sampled_by(groups: ArtifactRef, reference: ArtifactRef, objective: ObjectiveName) -> None:
    """Raise ValueError unless an objective that wants the reference's samples gets them."""
    if OBJECTIVES[objective].rollout_policy != "reference":
        return
    policy = str(groups.metadata.get("policy", ""))
    if policy != reference.digest:
        raise ValueError(
            f"groups: sampled by {f'policy {policy[:12]}' if policy else 'a policy that they do not name'}, but objective"
            f" {objective} is trained on samples of the run's first policy, {reference.digest[:12]}: sample them with that"
            " policy, or choose online_dpo"
        )


def check_groups(groups: Sequence[Group], where: object, smallest: int) -> None:
    """Raise ValueError, naming file, sample and field, unless each group has `smallest` responses or more, none empty,
    with finite rewards.
    """
    for group in groups:
        name = f"{where}: sample {group.sample_id}"
        if len(group.responses) < smallest:
            raise ValueError(
                f"{name}: responses: {len(group.responses)}, a group needs at least {smallest}; raise num_generations"
            )
        for response in group.responses:
            if not response.token_ids:
                raise ValueError(f"{name}: responses[{response.index}].token_ids is empty; sample the group again")
            if not math.isfinite(response.reward):
                raise ValueError(
                    f"{name}: responses[{response.index}].reward is {response.reward}; correct the reward function"
                )
