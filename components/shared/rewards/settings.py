"""Settings of the rewards, shared by every step that scores responses."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from components.shared.rewards.answers import Fallback
from components.shared.settings import StepSettings, setting


class RewardSettings(StepSettings):
    """What a response earns: the weighted sum of the rewards that apply to its sample."""

    reward_funcs: tuple[str, ...] = setting(
        ("format", "accuracy"),
        "Rewards by name: format, accuracy, iou, or the import path `package.module:function` of one's own.",
        min_length=1,
    )
    reward_weights: dict[str, float] = setting({}, "Weight of a reward by its name; a reward not named here weighs 1.")
    answer_fallbacks: tuple[Fallback, ...] = setting(
        (),
        "How accuracy and iou read what the strict parser does not: whole_response (no <answer> block), option_text "
        "(an option's text without its letter). Empty: not at all.",
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        from components.shared.rewards.registry import check_names, check_weights

        check_names(self.reward_funcs)
        check_weights(self.reward_funcs, self.reward_weights)
        return self
