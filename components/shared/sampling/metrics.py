"""What a set of groups is summed up by, under TRL's names."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from components.shared.groups import all_equal
from components.shared.schemas import Group


def zero_std(group: Group) -> bool:
    """Whether all responses of the group earned the same: its advantages vanish."""
    return all_equal(response.reward for response in group.responses)


def mean_reward(group: Group) -> float:
    """The mean of the group's rewards, as they were earned: not divided by their largest sum."""
    return math.fsum(response.reward for response in group.responses) / len(group.responses)


def frac_reward_zero_std(groups: Sequence[Group]) -> float:
    """The share of groups with all-equal rewards, 0 for no groups."""
    return float(np.mean([zero_std(group) for group in groups])) if groups else 0.0


def reward_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """`reward`, `reward_std`, `frac_reward_zero_std`, `rewards/<name>/mean` and `/std`; nothing for no groups.

    As in TRL, a standard deviation has n - 1 in its denominator, and `reward_std` is the mean over groups. Samples that
    a reward does not apply to are left out of that reward's mean.
    """
    if not groups:
        return {}
    rewards = [[response.reward for response in group.responses] for group in groups]
    metrics = {
        "reward": float(np.mean([mean_reward(group) for group in groups])),
        "reward_std": float(np.mean([_std(row) for row in rewards])),
        "frac_reward_zero_std": frac_reward_zero_std(groups),
    }
    by_name: dict[str, list[float]] = {}
    for group in groups:
        for response in group.responses:
            for name, value in response.rewards.items():
                by_name.setdefault(name, []).append(value)
    for name, values in sorted(by_name.items()):
        metrics[f"rewards/{name}/mean"] = math.fsum(values) / len(values)
        metrics[f"rewards/{name}/std"] = _std(values)
    return metrics


def completion_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """`num_tokens` (prompts and responses) and `completions/*`, lengths in tokens with EOS; nothing for no groups.

    `clipped_ratio` is the share of responses cut off at max_completion_length; `terminated` are the others.
    """
    responses = [response for group in groups for response in group.responses]
    if not responses:
        return {}
    lengths = np.array([len(response.token_ids) for response in responses])
    stopped = np.array([response.finish_reason == "stop" for response in responses])
    terminated = lengths[stopped] if stopped.any() else np.zeros(1, int)
    prompts = sum(len(group.prompt_token_ids) * len(group.responses) for group in groups)
    return {
        "num_tokens": float(prompts + lengths.sum()),
        "completions/mean_length": float(lengths.mean()),
        "completions/min_length": float(lengths.min()),
        "completions/max_length": float(lengths.max()),
        "completions/clipped_ratio": float(1 - stopped.mean()),
        "completions/mean_terminated_length": float(terminated.mean()),
        "completions/min_terminated_length": float(terminated.min()),
        "completions/max_terminated_length": float(terminated.max()),
    }


def _std(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
