"""Rewards by name: one small file each, a registry, and the weighted sum that a response earns."""

from components.shared.rewards.registry import (
    RewardError,
    check_rewards,
    max_reward,
    reward_versions,
    score,
)
from components.shared.rewards.settings import RewardSettings

__all__ = ["RewardError", "RewardSettings", "check_rewards", "max_reward", "reward_versions", "score"]
