"""Settings of the augmentation step."""

from __future__ import annotations

from typing import Literal

from components.shared.settings import StepSettings, setting

MAX_HINT_FRACTION = 0.8


class AugmentationSettings(StepSettings):
    """Which samples are made easier or harder for this round, and by how much."""

    augment_mode: Literal["both", "harder_only", "easier_only", "none"] = setting(
        "both",
        "Noise or masks that make easy samples harder (harder_only), hints that make hard ones easier (easier_only), both"
        " or none.",
    )
    frame_augmentation: Literal["noise", "mask"] = setting(
        "noise", "What makes an easy sample harder: noise on all its frames, or some of its frames masked."
    )
    augment_deadband: float = setting(
        0.1, "A sample whose |Delta| is not above this stays as it is.", unit="normalised reward", ge=0, le=1
    )
    level_schedule: Literal["adaptive", "fixed"] = setting(
        "adaptive", "Whether hints, noise and masks grow with |Delta|, or are the same for every sample."
    )
    hint_offset: float = setting(
        0.0, "Hint at |Delta| = 0, as a share of the reasoning (adaptive).", unit="share", ge=0, le=MAX_HINT_FRACTION
    )
    hint_slope: float = setting(
        1.2, "How much longer a hint gets with |Delta| (adaptive).", unit="share a unit of |Delta|", ge=0
    )
    hint_max: float = setting(
        MAX_HINT_FRACTION, "Longest hint, as a share of the reasoning.", unit="share", ge=0, le=MAX_HINT_FRACTION
    )
    fixed_hint_fraction: float = setting(
        0.3, "Every hint's share of the reasoning (fixed).", unit="share", ge=0, le=MAX_HINT_FRACTION
    )
    hint_generations: int = setting(
        4, "Responses with the ground-truth answer given, of which the best makes the hint.", unit="responses", ge=1
    )
    noise_offset: float = setting(
        10.0, "Noise at |Delta| = 0, as a standard deviation (adaptive).", unit="grey levels", ge=0, le=255
    )
    noise_slope: float = setting(
        60.0, "How much stronger noise gets with |Delta| (adaptive).", unit="grey levels a unit of |Delta|", ge=0
    )
    noise_max: float = setting(60.0, "Strongest noise, as a standard deviation.", unit="grey levels", ge=0, le=255)
    fixed_noise_std: float = setting(
        30.0, "Every noised video's standard deviation (fixed).", unit="grey levels", ge=0, le=255
    )
    mask_offset: float = setting(
        0.2, "Masked at |Delta| = 0, as a share of the video's pairs of frames (adaptive).", unit="share", ge=0, le=1
    )
    mask_slope: float = setting(
        0.6, "How many more frames are masked with |Delta| (adaptive).", unit="share a unit of |Delta|", ge=0
    )
    mask_max: float = setting(
        0.8, "Most that is masked, as a share of the video's pairs of frames; one pair is always left.",
        unit="share", ge=0, le=1,
    )  # fmt: skip
    fixed_mask_fraction: float = setting(
        0.5, "Every masked video's share of masked pairs of frames (fixed).", unit="share", ge=0, le=1
    )
