"""Settings of the rewards, shared by every step that scores responses."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from components.shared.settings import StepSettings, setting


class RewardSettings(StepSettings):
    """What a response earns: the weighted sum of the rewards that apply to its sample."""

    reward_funcs: tuple[str, ...] = setting(
        ("format", "accuracy"),
        "Rewards by name: format, accuracy, iou, or the import path `package.module:function` of one's own.",
        min_length=1,
    )
    reward_weights: tuple[float, ...] = setting((), "Weight of each reward, in the same order; empty means 1 for each.")

    @model_validator(mode="after")
    def _known(self) -> Self:
        from components.shared.rewards.registry import check_names, check_weights

        check_names(self.reward_funcs)
        check_weights(self.reward_funcs, self.reward_weights)
        return self
