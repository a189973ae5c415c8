"""Settings of the rollout step."""

from __future__ import annotations

from components.shared.settings import StepSettings, setting


class RolloutSettings(StepSettings):
    """Which groups a round trains on."""

    mix_original: bool = setting(False, "Whether an augmented sample's un-augmented group is trained on as well.")
    permute_rewards: bool = setting(
        False, "Control experiment: permute rewards within each group, so that there is nothing to learn."
    )
