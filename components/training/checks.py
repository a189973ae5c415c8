"""What groups must be before a training process is started for them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from components.shared.schemas import ArtifactRef, Group
from components.training.objectives import OBJECTIVES, ObjectiveName
from components.training.state import Adapter, Progress


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


def check_adapter(
    state: ArtifactRef, before: Progress, adapter: Adapter | None, policy: ArtifactRef, reference: ArtifactRef
) -> None:
    """Raise ValueError unless the state's rounds trained what the settings say: everything, or this very adapter."""
    if before.policy and before.adapter != adapter:
        raise ValueError(
            f"state {state.digest[:12]} comes from {_trained(before.adapter)}, the settings and inputs say"
            f" {_trained(adapter)}: a run keeps its lora_r, lora_alpha, lora_target_modules and first policy; set them back,"
            " or begin a new run from the policy"
        )
    if adapter and not before.policy and policy.digest != reference.digest:
        raise ValueError(
            f"policy {policy.digest[:12]}: a new adapter stands on the run's first policy, and reference is another one,"
            f" {reference.digest[:12]}: hand in the same for both, or the state that belongs to the policy"
        )


def _trained(adapter: Adapter | None) -> str:
    if adapter is None:
        return "full training (lora_r 0)"
    modules = ", ".join(adapter.target_modules)
    return f"LoRA of r {adapter.r}, alpha {adapter.alpha} on {modules} of policy {adapter.base[:12]}"


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
