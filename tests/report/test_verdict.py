from __future__ import annotations

import pytest

from components.report.summary import Compared, LevelSummary, PromotionSummary
from components.report.verdict import plain, signed, verdict
from components.shared.statistics import Estimate


def level(before: float, after: float, low: float | None, high: float | None, metric: str = "accuracy") -> LevelSummary:
    scores = Compared(
        before=Estimate(before, None, None),
        after=Estimate(after, None, None),
        difference=Estimate(after - before, low, high),
    )
    return LevelSummary(metric=metric, questions=10, videos=5, gained=0, lost=0, figures={"sampled": scores})


def with_greedy(first: LevelSummary, second: LevelSummary) -> LevelSummary:
    """The first level, its greedy figures being the second's sampled ones."""
    return first.model_copy(update={"figures": first.figures | {"greedy": second.figures["sampled"]}})


def promotion(promoted: bool, difference: Estimate, champion: str = "") -> PromotionSummary:
    return PromotionSummary(
        promoted=promoted,
        reason="the alias moved",
        reasons=("the alias moved", "second"),
        difference=difference,
        registered_model="deepvideo-r1",
        alias="champion",
        version="2",
        champion_before=champion,
    )


ROSE = {"L1": level(0.461, 0.682, 0.175, 0.264)}
BETTER, UNCLEAR = Estimate(0.2, 0.1, 0.3), Estimate(0.02, -0.01, 0.05)


def test_a_rise_is_told_with_its_figures_and_its_interval():
    text = verdict(ROSE, promotion(True, BETTER), 0.95)
    assert text == (
        "L1 accuracy rose from 46.1 % to 68.2 % (+22.1 points, 95 % interval 17.5 to 26.4). Promoted: yes, because on "
        "the promotion questions it beat the base policy (+20.0 points, 95 % interval 10.0 to 30.0)."
    )


@pytest.mark.parametrize(
    ("low", "high", "word"), [(0.01, 0.1, "rose"), (-0.1, -0.01, "fell"), (-0.1, 0.1, "moved within chance")]
)
def test_only_an_interval_on_one_side_of_zero_is_called_a_rise_or_a_fall(low, high, word):
    assert f"L1 accuracy {word} from" in verdict({"L1": level(0.5, 0.5, low, high)}, promotion(True, BETTER), 0.9)


def test_the_first_level_is_told_in_full_and_overall_and_the_promotion_split_are_left_to_the_table():
    scores = {
        "L1": level(0.4, 0.5, 0.05, 0.15),
        "L2": level(0.4, 0.3, -0.15, -0.05),
        "overall": level(0, 1, 0.9, 1),
        "promotion": level(0, 1, 0.9, 1),
    }
    text = verdict(scores, promotion(True, BETTER), 0.95)
    assert "L2 fell from 40.0 % to 30.0 % (−10.0)." in text and "overall" not in text and "100.0" not in text


def test_greedy_answers_are_told_level_by_level_those_that_moved_alike_together():
    rose = ROSE["L1"]
    scores = {
        "L1": with_greedy(rose, level(0.608, 0.612, -0.05, 0.06)),
        "L2": with_greedy(rose, level(0.4, 0.3, -0.15, -0.05)),
        "L3": with_greedy(rose, level(0.5, 0.49, -0.05, 0.03)),
        "promotion": with_greedy(rose, level(0.1, 0.9, 0.7, 0.9)),
    }
    assert (
        " Greedy answers: no change beyond chance in L1 (60.8 to 61.2 %), L3 (50.0 to 49.0 %); a fall in L2 (40.0 to "
        "30.0 %). Promoted: " in verdict(scores, promotion(True, BETTER), 0.95)
    )


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (
            promotion(False, UNCLEAR, "4"),
            "no, because on the promotion questions it did not beat champion version 4 bey",
        ),
        (promotion(False, BETTER), "no, although on the promotion questions it beat the base policy"),
        (promotion(False, BETTER), "30.0): the alias moved."),
        (promotion(False, Estimate(None, None, None)), "no, because the alias moved."),
        (promotion(False, Estimate(0.2, None, None)), "+20.0 points, no interval, too few videos"),
    ],
)
def test_a_refused_promotion_says_why(outcome, words):
    assert words in verdict(ROSE, outcome, 0.95).partition("Promoted: ")[2]


def test_numbers_have_a_real_minus_sign_and_a_rounded_zero_has_no_sign():
    assert [signed(value) for value in (22.14, -3, 0.04, -0.04)] == ["+22.1", "−3.0", "0.0", "0.0"]
    assert plain(-1.25, 2) == "−1.25" and plain(28.749999999999996) == "28.8"
