"""The arms: what the issue asks for, in the pipeline's own settings."""

from __future__ import annotations

import pytest

from pipelines.settings import build_settings, load_preset
from tests.benchmarks.study.arms import ARMS, BASE, FULL, GRPO_AUG, GRPO_NAME, QUICK, REG, REG_AUG, SFT
from tests.benchmarks.study.claims import CLAIMS, PAPER

MAIN = {BASE, SFT, GRPO_NAME, GRPO_AUG, REG, REG_AUG}


def test_six_main_arms_have_five_seeds_and_the_others_three() -> None:
    assert {name for name, arm in ARMS.items() if "main" in arm.tables} == MAIN
    for name, arm in ARMS.items():
        assert len(FULL.seeds(arm)) == (5 if name in MAIN else 3), name
        assert len(QUICK.seeds(arm)) == 2


def test_the_augmented_arm_is_the_products_main_job() -> None:
    rate = load_preset("laptop")["training"]["learning_rate"]
    assert ARMS[REG_AUG].settings(0, rate) == build_settings(load_preset("laptop"))


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_is_selected_by_settings_alone(name: str) -> None:
    settings = ARMS[name].settings(4, 5e-4)
    assert settings.pipeline.seed == 4 and settings.training.learning_rate == 5e-4


def test_staleness_arms_differ_in_steps_a_generation_alone() -> None:
    """Twelve groups a step and one pass in each, so that equal responses are equal steps too."""
    for steps in (1, 4, 8):
        settings = ARMS[f"stale_{steps}"].settings(0, 1e-4)
        assert settings.training.num_iterations * settings.training.steps_per_generation == steps
        assert settings.difficulty.prompts_per_round / settings.training.steps_per_generation == 12


def test_every_claim_is_about_arms_that_are_run_and_every_arm_of_the_paper_is_there() -> None:
    assert all(claim.better in ARMS and claim.worse in ARMS for claim in CLAIMS)
    assert set(PAPER) <= set(ARMS)
    assert set(FULL.arms) == set(ARMS)
