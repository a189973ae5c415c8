"""Settings of the difficulty step."""

from __future__ import annotations

from typing import Literal

from components.shared.settings import StepSettings, setting


class DifficultySettings(StepSettings):
    """Which samples a round takes, and what their difficulty is measured against."""

    prompts_per_round: int = setting(
        96, "Training samples a round takes; all of them where there are fewer.", unit="samples", ge=1
    )
    replay_window: int = setting(100, "Samples that the replay buffer holds (W).", unit="samples", ge=1)
    difficulty_reference: Literal["relative", "absolute"] = setting(
        "relative",
        "What a mean reward is compared with: the replay buffer's mean (relative) or absolute_reference (absolute).",
    )
    absolute_reference: float = setting(
        0.5, "What every mean reward is compared with (absolute).", unit="normalised reward", ge=0, le=1
    )
