"""Bootstrap intervals against formulas, scipy and their own promise of coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from components.shared.statistics import (
    Ratio,
    bootstrap_difference,
    bootstrap_mix,
    bootstrap_ratio,
    permutation_p_value,
)

CONFIG = {"confidence": 0.95, "resamples": 4000}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_ratio_is_the_sum_of_numerators_over_the_sum_of_denominators() -> None:
    estimate = bootstrap_ratio(Ratio([1, 0, 3], [2, 0, 4]), ["a", "b", "c"], rng=rng(), **CONFIG)
    assert estimate.value == pytest.approx((1 + 0 + 3) / (2 + 0 + 4))


def test_one_question_a_video_gives_scipys_percentile_interval() -> None:
    values = rng(1).random(80)
    ours = bootstrap_ratio(Ratio.mean(values), [str(i) for i in range(80)], rng=rng(2), **CONFIG)
    reference = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, confidence_level=0.95, method="percentile", rng=rng(3)
    ).confidence_interval
    width = reference.high - reference.low
    assert ours.value == pytest.approx(values.mean())
    assert ours.low == pytest.approx(reference.low, abs=0.06 * width)  # Monte Carlo error of 4,000 draws
    assert ours.high == pytest.approx(reference.high, abs=0.06 * width)


def test_a_ratio_over_videos_gives_scipys_paired_percentile_interval() -> None:
    tops, bottoms = rng(1).integers(0, 3, 60), rng(2).integers(1, 5, 60)
    ours = bootstrap_ratio(Ratio(tops, bottoms), [str(i) for i in range(60)], rng=rng(3), **CONFIG)
    reference = stats.bootstrap(
        (tops, bottoms),
        lambda top, bottom, axis: top.sum(axis=axis) / bottom.sum(axis=axis),
        paired=True,
        n_resamples=4000,
        method="percentile",
        rng=rng(4),
    ).confidence_interval
    width = reference.high - reference.low
    assert ours.low == pytest.approx(reference.low, abs=0.06 * width)
    assert ours.high == pytest.approx(reference.high, abs=0.06 * width)


def test_many_questions_with_equal_answers_in_a_video_count_as_one_observation() -> None:
    values = rng(1).random(50)
    clusters = [str(i) for i in range(50)]
    once = bootstrap_ratio(Ratio.mean(values), clusters, rng=rng(2), **CONFIG)
    tenfold = bootstrap_ratio(Ratio.mean(np.repeat(values, 10)), np.repeat(clusters, 10), rng=rng(2), **CONFIG)
    assert (tenfold.low, tenfold.high) == pytest.approx((once.low, once.high))


def test_the_standard_error_of_a_mean_is_the_formulas() -> None:
    """Half a 95 % interval is 1.96 s / sqrt(n), s with n in its denominator as draws are from the sample itself."""
    values = rng(1).normal(size=400)
    estimate = bootstrap_ratio(Ratio.mean(values), [str(i) for i in range(400)], rng=rng(2), **CONFIG)
    half = 1.959964 * values.std() / 20
    assert (estimate.high - estimate.low) / 2 == pytest.approx(half, rel=0.05)


def test_intervals_of_clustered_answers_cover_the_truth_as_often_as_promised() -> None:
    """400 simulated evaluations of 60 videos with 4 questions each, as hard as the video: 95 % +- 4 points."""
    source, covered = rng(5), 0
    clusters = np.repeat(np.arange(60), 4).astype(str)
    for _ in range(400):
        easiness = source.beta(2, 2, size=60)  # mean 0.5
        right = source.random(240) < np.repeat(easiness, 4)
        estimate = bootstrap_ratio(Ratio.mean(right), clusters, confidence=0.95, resamples=400, rng=source)
        covered += estimate.low <= 0.5 <= estimate.high
    assert 0.91 <= covered / 400 <= 0.99


def test_a_paired_difference_of_parsed_only_ratios_covers_the_truth_as_often_as_promised() -> None:
    """Each question's answers are read with chance 0.7 and 0.9, right if read with chance 0.4 and 0.6: truth 0.2."""
    source, covered = rng(6), 0
    clusters = np.repeat(np.arange(50), 4).astype(str)
    for _ in range(400):
        ratios = []
        for read, right in ((0.9, 0.6), (0.7, 0.4)):
            parsed = source.random(200) < read
            ratios.append(Ratio(parsed & (source.random(200) < right), parsed))
        estimate = bootstrap_difference(*ratios, clusters, confidence=0.95, resamples=400, rng=source)
        covered += estimate.low <= 0.2 <= estimate.high
    assert 0.91 <= covered / 400 <= 0.99


def test_a_paired_difference_of_means_is_the_mean_of_differences() -> None:
    after, before = rng(1).random(90), rng(2).random(90)
    clusters = np.repeat(np.arange(30), 3).astype(str)
    paired = bootstrap_difference(Ratio.mean(after), Ratio.mean(before), clusters, rng=rng(3), **CONFIG)
    direct = bootstrap_ratio(Ratio.mean(after - before), clusters, rng=rng(3), **CONFIG)
    assert (paired.value, paired.low, paired.high) == pytest.approx((direct.value, direct.low, direct.high))


def test_equal_scores_differ_by_exactly_zero() -> None:
    ratio = Ratio([1, 0, 1, 1], [1, 1, 1, 1])
    estimate = bootstrap_difference(ratio, ratio, ["a", "a", "b", "c"], rng=rng(), **CONFIG)
    assert (estimate.value, estimate.low, estimate.high) == (0, 0, 0)


def test_a_single_video_has_a_figure_and_no_interval() -> None:
    estimate = bootstrap_ratio(Ratio.mean([1, 0]), ["a", "a"], rng=rng(), **CONFIG)
    assert (estimate.value, estimate.low, estimate.high) == (0.5, None, None)


def test_no_answer_that_could_be_read_has_no_figure() -> None:
    estimate = bootstrap_ratio(Ratio([0, 0], [0, 0]), ["a", "b"], rng=rng(), **CONFIG)
    assert (estimate.value, estimate.low, estimate.high) == (None, None, None)


def test_draws_without_a_figure_do_not_enter_the_interval() -> None:
    estimate = bootstrap_ratio(Ratio([1, 0], [1, 0]), ["a", "b"], rng=rng(), **CONFIG)
    assert (estimate.value, estimate.low, estimate.high) == (1, 1, 1)


def test_the_same_generator_gives_the_same_interval_however_many_draws_are_held_at_once(monkeypatch) -> None:
    ratio, clusters = Ratio.mean(rng(1).random(40)), [str(i) for i in range(40)]
    at_once = bootstrap_ratio(ratio, clusters, rng=rng(2), **CONFIG)
    monkeypatch.setattr("components.shared.statistics._DRAWS_AT_ONCE", 40 * 7)
    assert bootstrap_ratio(ratio, clusters, rng=rng(2), **CONFIG) == at_once


def test_a_mean_of_group_means_weighs_every_group_alike() -> None:
    values, first = np.array([1.0, 1.0, 1.0, 0.0]), np.array([1.0, 1.0, 1.0, 0.0])
    mix = [(0.5, Ratio(values * first, first)), (0.5, Ratio(values * (1 - first), 1 - first))]
    assert bootstrap_mix(mix, list("abcd"), rng=rng(), **CONFIG).value == pytest.approx((1 + 0) / 2)


def test_one_answer_a_video_gives_the_exact_sign_test() -> None:
    """Binary answers, a video each: the permutation test is McNemar's exact one, a binomial over what differs."""
    after, before = np.repeat([1, 0, 1, 0], [14, 5, 20, 11]), np.repeat([0, 1, 1, 0], [14, 5, 20, 11])
    videos = [str(i) for i in range(50)]
    found = permutation_p_value(
        [(1.0, Ratio.mean(after))], [(1.0, Ratio.mean(before))], videos, resamples=20000, rng=rng()
    )
    assert found == pytest.approx(stats.binomtest(14, 19).pvalue, abs=0.006)  # 4 standard errors of 20,000 draws


def test_equal_answers_have_a_p_value_of_one_and_answers_to_one_video_move_together() -> None:
    same = [(1.0, Ratio.mean([1.0, 0.0]))]
    assert permutation_p_value(same, same, ["a", "b"], resamples=100, rng=rng()) == 1.0
    right, wrong = [(1.0, Ratio.mean(np.ones(30)))], [(1.0, Ratio.mean(np.zeros(30)))]
    assert permutation_p_value(right, wrong, ["a"] * 30, resamples=100, rng=rng()) == 1.0
    apart = permutation_p_value(right, wrong, [str(i) for i in range(30)], resamples=999, rng=rng())
    assert apart == pytest.approx(1 / 1000)


def test_a_p_value_is_uniform_where_nothing_differs() -> None:
    rates = []
    for seed in range(200):
        draw = rng(seed)
        after, before = draw.random(40), draw.random(40)
        videos = [str(i // 2) for i in range(40)]
        found = permutation_p_value(
            [(1.0, Ratio.mean(after))], [(1.0, Ratio.mean(before))], videos, resamples=199, rng=draw
        )
        rates.append(found <= 0.1)
    assert np.mean(rates) == pytest.approx(0.1, abs=0.085)  # 4 standard errors of 200 trials


def test_a_figure_that_is_undefined_has_no_p_value() -> None:
    none = [(1.0, Ratio([0.0], [0.0]))]
    assert permutation_p_value(none, none, ["a"], resamples=10, rng=rng()) is None
