"""How strongly a sample is augmented: this project's formulas, linear in |Delta| and clipped (the paper gives none)."""

from __future__ import annotations

from typing import Literal

from components.augmentation.settings import AugmentationSettings


def planned_kind(delta: float, settings: AugmentationSettings) -> Literal["none", "hint", "noise", "mask"]:
    """Hints for hard samples (Delta above the dead band), noise or masks for easy ones (below it), if the mode has them."""
    if delta > settings.augment_deadband and settings.augment_mode in ("both", "easier_only"):
        return "hint"
    if delta < -settings.augment_deadband and settings.augment_mode in ("both", "harder_only"):
        return settings.frame_augmentation
    return "none"


def hint_fraction(delta: float, settings: AugmentationSettings) -> float:
    """The hint's share of the reasoning's tokens: clip(offset + slope |Delta|, 0, hint_max), or the fixed one."""
    if settings.level_schedule == "fixed":
        return settings.fixed_hint_fraction
    return _clip(settings.hint_offset + settings.hint_slope * abs(delta), settings.hint_max)


def noise_std(delta: float, settings: AugmentationSettings) -> float:
    """The noise's standard deviation in grey levels: clip(offset + slope |Delta|, 0, noise_max), or the fixed one."""
    if settings.level_schedule == "fixed":
        return settings.fixed_noise_std
    return _clip(settings.noise_offset + settings.noise_slope * abs(delta), settings.noise_max)


def mask_fraction(delta: float, settings: AugmentationSettings) -> float:
    """The share of the video's temporal patches that is masked: clip(offset + slope |Delta|, 0, mask_max), or the fixed one."""
    if settings.level_schedule == "fixed":
        return settings.fixed_mask_fraction
    return _clip(settings.mask_offset + settings.mask_slope * abs(delta), settings.mask_max)


def _clip(value: float, largest: float) -> float:
    return min(max(value, 0.0), largest)
