"""Levels as functions of Delta, against hand calculations."""

from __future__ import annotations

import pytest

from components.augmentation.levels import hint_fraction, mask_fraction, noise_std, planned_kind
from components.augmentation.settings import AugmentationSettings

SETTINGS = AugmentationSettings(
    augment_deadband=0.1, hint_offset=0.2, hint_slope=1.0, hint_max=0.7, noise_offset=5, noise_slope=50, noise_max=40,
    mask_offset=0.1, mask_slope=0.5, mask_max=0.5, fixed_hint_fraction=0.4, fixed_noise_std=20, fixed_mask_fraction=0.25,
)  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "kinds"),
    [
        ("both", ("noise", "none", "none", "none", "hint")),
        ("harder_only", ("noise", "none", "none", "none", "none")),
        ("easier_only", ("none", "none", "none", "none", "hint")),
        ("none", ("none",) * 5),
    ],
)
def test_only_samples_outside_the_dead_band_are_augmented(mode: str, kinds: tuple[str, ...]) -> None:
    settings = SETTINGS.model_copy(update={"augment_mode": mode})
    assert tuple(planned_kind(delta, settings) for delta in (-0.11, -0.1, 0.0, 0.1, 0.11)) == kinds


@pytest.mark.parametrize(("mode", "easy"), [("both", "mask"), ("harder_only", "mask"), ("easier_only", "none")])
def test_masks_take_the_place_of_noise_alone(mode: str, easy: str) -> None:
    noise = SETTINGS.model_copy(update={"augment_mode": mode})
    mask = noise.model_copy(update={"frame_augmentation": "mask"})
    assert planned_kind(-0.11, mask) == easy
    assert [planned_kind(d, mask) for d in (-0.1, 0.0, 0.11)] == [planned_kind(d, noise) for d in (-0.1, 0.0, 0.11)]


def test_levels_grow_with_difficulty_and_are_clipped() -> None:
    assert hint_fraction(0.3, SETTINGS) == pytest.approx(0.5)
    assert hint_fraction(0.9, SETTINGS) == 0.7
    assert noise_std(-0.3, SETTINGS) == pytest.approx(20)
    assert noise_std(-0.9, SETTINGS) == 40
    assert mask_fraction(-0.3, SETTINGS) == pytest.approx(0.25)
    assert mask_fraction(-0.9, SETTINGS) == 0.5


def test_fixed_levels_know_no_difficulty() -> None:
    settings = SETTINGS.model_copy(update={"level_schedule": "fixed"})
    assert {hint_fraction(delta, settings) for delta in (0.2, 0.9)} == {0.4}
    assert {noise_std(delta, settings) for delta in (-0.2, -0.9)} == {20}
    assert {mask_fraction(delta, settings) for delta in (-0.2, -0.9)} == {0.25}


def test_no_hint_may_be_longer_than_eighty_percent() -> None:
    with pytest.raises(ValueError, match="0.8"):
        AugmentationSettings(hint_max=0.9)
