"""Which frames are masked, against hand calculations."""

from __future__ import annotations

import numpy as np
import pytest

from components.augmentation.masking import masked_frames


def masked(count: int, fraction: float, seed: int = 0) -> tuple[int, ...]:
    return masked_frames(count, fraction, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("count", "fraction", "frames"),
    [
        (8, 0.37, 2),  # 1.48 of four patches
        (8, 0.375, 4),  # 1.5 of them
        (8, 0.5, 4),
        (8, 0.01, 2),  # at least one patch
        (8, 1.0, 6),  # one is left
        (16, 0.8, 12),  # 6.4 of eight patches
        (4, 0.9, 2),
        (2, 0.9, 0),  # nothing would be left
        (8, 0.0, 0),
    ],
)
def test_the_share_is_rounded_to_whole_patches(count: int, fraction: float, frames: int) -> None:
    assert all(len(masked(count, fraction, seed)) == frames for seed in range(5))


def test_both_frames_of_a_patch_are_masked_or_neither() -> None:
    for seed in range(20):
        chosen = masked(16, 0.5, seed)
        assert list(chosen) == sorted(chosen)
        assert {frame ^ 1 for frame in chosen} == set(chosen)  # 2i and 2i + 1


def test_the_last_of_an_odd_number_of_frames_is_a_patch_of_its_own() -> None:
    assert {masked(5, 0.34, seed) for seed in range(40)} == {(0, 1), (2, 3), (4,)}


def test_a_larger_share_masks_the_same_frames_and_others() -> None:
    for seed in range(10):
        shares = [set(masked(16, patches / 8, seed)) for patches in range(1, 8)]
        assert all(less < more for less, more in zip(shares, shares[1:], strict=False))


def test_every_patch_is_masked_as_often() -> None:
    counts = np.bincount([masked(8, 0.25, seed)[0] // 2 for seed in range(400)], minlength=4)
    assert (abs(counts - 100) < 40).all()  # more than four standard deviations (8.7)
