"""From runs to the page: intervals, paired differences, verdicts, and nothing that is left out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_rel

from components.shared.statistics import Estimate, Ratio, bootstrap_ratio
from tests.benchmarks.study.arms import ARMS, BASE, FULL, GRPO_NAME, QUICK, REG, REG_AUG
from tests.benchmarks.study.comparisons import Difference, difference, mean, two_way
from tests.benchmarks.study.page import Results, page
from tests.benchmarks.study.plots import curve, draw
from tests.benchmarks.study.records import Evaluated, Level, Questions, RoundFigures, RunRecord, read, run_key, write
from tests.benchmarks.study.schedule import best_rate

LEVELS = ("L1", "L2", "L3")
VIDEOS = tuple(f"v{index // 3}" for index in range(60))
QUESTIONS = Questions(
    ids={level: tuple(f"{level}_{i}" for i in range(60)) for level in LEVELS},
    videos=dict.fromkeys(LEVELS, VIDEOS),
)


def made(arm: str, seed: int, share: float, responses: int = 12_000) -> RunRecord:
    """A run whose answers are right at random with probability `share`."""
    rng = np.random.default_rng((seed, 1))  # the same questions are hard for all arms
    right = tuple(float(value) for value in rng.random(60) < share)
    level = Level(sampled=right, greedy=right, parsed=(1.0,) * 60)
    rounds = tuple(
        RoundFigures(
            round=number + 1, prompts=144, responses=2000, optimizer_steps=36, reward=1.5 + 0.1 * number,
            reward_unaugmented=1.4 + 0.1 * number, all_equal=0.1, all_equal_unaugmented=0.3, hinted=20, noised=50,
            kl=0.01, rho_std=0.5, entropy=0.1, grad_norm=2.0,
        )
        for number in range(6)
    )  # fmt: skip
    at = Evaluated(responses=responses, optimizer_steps=216, levels=dict.fromkeys(LEVELS, level))
    return RunRecord(
        key="k", arm=arm, seed=seed, learning_rate=2e-4, at_responses=at, at_updates=at, rounds=rounds,
        seconds={"training": 100.0},
    )  # fmt: skip


def test_with_one_seed_the_interval_is_the_one_clustered_by_video() -> None:
    """Then seeds add nothing: the same estimate, and nearly the same interval, as the shared cluster bootstrap's."""
    values = np.random.default_rng(0).random((1, 60))
    ours = two_way(values, VIDEOS, "test")
    theirs = bootstrap_ratio(
        Ratio.mean(values[0]), VIDEOS, confidence=0.95, resamples=10_000, rng=np.random.default_rng(1)
    )
    assert ours.value == pytest.approx(theirs.value)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_seeds_that_differ_widen_the_interval() -> None:
    """Constant within a seed, the drawn means are those of five seeds drawn with replacement: sd = s / sqrt(5)."""
    seeds = np.array([0.2, 0.35, 0.5, 0.65, 0.8])
    found = two_way(np.tile(seeds[:, None], (1, 60)), VIDEOS, "test")
    drawn = seeds[np.random.default_rng(0).integers(5, size=(20_000, 5))].mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (found.value, found.low, found.high) == pytest.approx((0.5, low, high), abs=0.02)


def test_differences_are_paired_by_seed_and_question() -> None:
    after = [made(REG_AUG, seed, 0.7 + 0.02 * seed) for seed in range(5)]
    before = [made(GRPO_NAME, seed, 0.4) for seed in range(3)]
    found = difference(after, before, QUESTIONS, "L1")
    scores = [[np.mean(run.at_responses.levels["L1"].sampled) for run in runs[:3]] for runs in (after, before)]
    assert found.by_seed == pytest.approx(np.subtract(*scores))
    assert found.estimate.value == pytest.approx(np.mean(np.subtract(*scores)))
    assert found.p == pytest.approx(ttest_rel(*scores).pvalue)
    assert mean(before, QUESTIONS, "L1").value == pytest.approx(np.mean(scores[1]))


@pytest.mark.parametrize(
    ("low", "high", "p", "verdict"),
    [
        (0.01, 0.1, 0.01, "holds"),
        (-0.2, -0.01, 0.01, "reversed"),
        (-0.1, 0.1, 0.01, "not decided at this scale"),
        (0.01, 0.1, 0.2, "not decided at this scale"),
        (0.01, 0.1, None, "not decided at this scale"),
    ],
)
def test_the_verdict_follows_from_the_interval_and_the_test(
    low: float, high: float, p: float | None, verdict: str
) -> None:
    assert Difference(Estimate((low + high) / 2, low, high), p, ()).verdict == verdict


def test_the_page_has_every_arm_seed_and_claim_and_says_what_was_lost() -> None:
    runs = {name: [made(name, seed, 0.4) for seed in FULL.seeds(arm)] for name, arm in ARMS.items()}
    runs[REG_AUG] = [made(REG_AUG, seed, 0.8 if seed else 0.5) for seed in range(5)]
    runs[REG] = [made(REG, seed, 0.05) for seed in range(5)]
    text = page(Results(FULL, runs, {}, QUESTIONS, {"machine": "two cores"}), ["study/reward.svg"])
    for arm in ARMS.values():
        assert text.count(f"| {arm.label} |") >= 2, arm.name
    gains = difference(runs[REG_AUG], runs[BASE], QUESTIONS, "L1").by_seed
    enough = sum(gain >= 0.2 for gain in gains)
    assert 0 < enough < 5 and f"on L1: {enough} of 5 seeds" in text
    claims = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if "| L1 |" in line}
    assert claims["Reg-GRPO with augmentation is better than GRPO"].endswith("| holds |")
    assert claims["Reg-GRPO is better than GRPO"].endswith("| reversed |")
    assert claims["GRPO is better than SFT"].endswith("| not decided at this scale |")
    assert "| 30.0 % | 10.0 % | -20.0 | -20.0 to -20.0 |" in text
    quick = page(Results(QUICK, runs, {}, QUESTIONS, {}))
    assert "This is the quick one" in quick and "This is the quick one" not in text


def test_curves_are_means_over_seeds_at_the_responses_sampled_before_a_round(tmp_path) -> None:  # type: ignore[no-untyped-def]
    runs = {name: [made(name, seed, 0.5) for seed in range(3)] for name in (REG, REG_AUG)}
    grid, values, deviation = curve([run.rounds for run in runs[REG]], lambda item: item.reward)
    assert grid.tolist() == [0, 2000, 4000, 6000, 8000, 10_000]
    assert values == pytest.approx([1.5, 1.6, 1.7, 1.8, 1.9, 2.0]) and deviation.max() < 1e-9
    for name in draw(runs, tmp_path):
        assert "<svg" in (tmp_path / name).read_text()


def test_a_run_is_found_again_under_its_own_key_only(tmp_path) -> None:  # type: ignore[no-untyped-def]
    found = made(REG, 0, 0.5)
    write(tmp_path / "run.json", found)
    assert read(tmp_path / "run.json", "k") == read(tmp_path / "run.json") == found
    assert read(tmp_path / "run.json", "other") is None and read(tmp_path / "none.json") is None
    assert run_key(responses=1) != run_key(responses=2)


def test_the_best_learning_rate_of_equals_is_the_smallest() -> None:
    assert best_rate({1e-4: 0.5, 2e-4: 0.6, 5e-4: 0.6}) == 2e-4
