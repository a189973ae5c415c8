"""What groups must be before a training process is started for them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from components.shared.schemas import Group


def check_groups(groups: Sequence[Group], where: object) -> None:
    """Raise ValueError, naming file, sample and field, unless each group has two responses or more, none empty, with
    finite rewards.
    """
    for group in groups:
        name = f"{where}: sample {group.sample_id}"
        if len(group.responses) < 2:
            raise ValueError(
                f"{name}: responses: {len(group.responses)}, a group needs at least 2; raise num_generations"
            )
        for response in group.responses:
            if not response.token_ids:
                raise ValueError(f"{name}: responses[{response.index}].token_ids is empty; sample the group again")
            if not math.isfinite(response.reward):
                raise ValueError(
                    f"{name}: responses[{response.index}].reward is {response.reward}; correct the reward function"
                )
