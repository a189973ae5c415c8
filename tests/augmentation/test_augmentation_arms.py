"""Every arm of the paper's ablations by settings alone: what happens to a sample that is never, mostly and always right."""

from __future__ import annotations

import pytest

from components.augmentation.levels import hint_fraction, mask_fraction, noise_std, planned_kind
from components.difficulty.formula import delta, reference_reward
from pipelines.overrides import parse_assignments
from pipelines.settings import build_settings

BUFFER = [0.9, 0.7]  # mean 0.8
MEANS = (0.0, 0.75, 1.0)
LEVEL = {"none": lambda *_: 0.0, "hint": hint_fraction, "noise": noise_std, "mask": mask_fraction}
LINES = {  # level = slope |Delta|, and what every sample has where levels are fixed
    "augmentation": {
        "augment_deadband": 0.1, "hint_offset": 0, "hint_slope": 0.5, "noise_offset": 0, "noise_slope": 100,
        "noise_max": 255, "mask_offset": 0, "mask_slope": 2, "mask_max": 1,
        "fixed_hint_fraction": 0.25, "fixed_noise_std": 30, "fixed_mask_fraction": 0.75,
    },
}  # fmt: skip
NONE = ("none", 0.0)


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        # relative: Delta is 0.8, 0.05, -0.2
        ([], (("hint", 0.4), NONE, ("noise", 20))),
        # absolute: Delta is 0.5, -0.25, -0.5
        (["difficulty.difficulty_reference=absolute"], (("hint", 0.25), ("noise", 25), ("noise", 50))),
        # 0.75, 0, -0.25
        (
            ["difficulty.difficulty_reference=absolute", "difficulty.absolute_reference=0.75"],
            (("hint", 0.375), NONE, ("noise", 25)),
        ),
        (["augmentation.augment_mode=harder_only"], (NONE, NONE, ("noise", 20))),
        (["augmentation.augment_mode=easier_only"], (("hint", 0.4), NONE, NONE)),
        (["augmentation.augment_mode=none"], (NONE, NONE, NONE)),
        (["augmentation.level_schedule=fixed"], (("hint", 0.25), NONE, ("noise", 30))),
        (["augmentation.frame_augmentation=mask"], (("hint", 0.4), NONE, ("mask", 0.4))),
        (
            ["augmentation.frame_augmentation=mask", "augmentation.level_schedule=fixed"],
            (("hint", 0.25), NONE, ("mask", 0.75)),
        ),
        (
            ["augmentation.frame_augmentation=mask", "augmentation.augment_mode=harder_only"],
            (NONE, NONE, ("mask", 0.4)),
        ),
    ],
)
def test_an_arm_is_a_matter_of_settings(assignments: list[str], expected: tuple[tuple[str, float], ...]) -> None:
    settings = build_settings(LINES, parse_assignments(assignments))
    measured, augmented = settings.difficulty, settings.augmentation
    reference = reference_reward(BUFFER, MEANS, measured.difficulty_reference, measured.absolute_reference)
    for mean, (kind, level) in zip(MEANS, expected, strict=True):
        found = delta(reference, mean)
        assert planned_kind(found, augmented) == kind
        assert LEVEL[kind](found, augmented) == pytest.approx(level)
