"""Settings of the promotion step."""

from __future__ import annotations

from components.shared.schemas import PROMOTION_SPLIT
from components.shared.settings import StepSettings, setting


class PromotionSettings(StepSettings):
    """When a candidate becomes the champion, and where that is written down."""

    registered_model: str = setting(
        "deepvideo-policy", "Name in MLflow's model registry; every candidate becomes a version of it.", min_length=1
    )
    alias: str = setting(
        "champion", "Alias that points to the version runs start from.", min_length=1, pattern=r"^[A-Za-z_][\w-]*$"
    )
    promotion_split: str = setting(
        PROMOTION_SPLIT, "Split on which candidate and champion are compared.", pattern=r"^[A-Za-z0-9_-]+$"
    )
    confidence: float = setting(
        0.95, "Confidence of the interval that must lie above zero on the promotion split.", unit="share", gt=0.5, lt=1
    )
    bootstrap_resamples: int = setting(2000, "Draws of videos behind the interval.", unit="draws", ge=100)
    max_level_loss: float = setting(
        2.0, "Most that any other held-out level may lose against the base policy.", unit="points of 100", ge=0
    )
