"""What each reward gives, against values worked out by hand."""

from __future__ import annotations

import math
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.rewards import RewardError, RewardSettings, check_rewards, max_reward, reward_versions, score
from components.shared.rewards.accuracy import accuracy_reward
from components.shared.rewards.answers import answer_in_words, read_letter, read_number, read_spans, words
from components.shared.rewards.format import format_reward
from components.shared.rewards.iou import interval_iou, iou_reward
from components.shared.rewards.similarity import rouge_l, rouge_n, word_error_rate
from components.shared.schemas import Sample


def make(task: str, answer: str, **fields: object) -> Sample:
    return Sample.model_validate({"id": "s", "video": "v", "question": "?", "task": task, "answer": answer, **fields})


CHOICE = make("multiple_choice", "B", options=("red", "a green square", "blue"))
GROUNDED = make("grounded_qa", "(B)", options=("red", "green"), spans=[(2.0, 6.0)])
WHEN = make("temporal_grounding", "2 to 6", spans=[(2.0, 6.0)])


def said(answer: str) -> str:
    return f"<think>so</think><answer>{answer}</answer>"


@pytest.mark.parametrize(
    "answer",
    ["B", "b", " B ", "(B)", "(b)", "B.", "B)", "B:", "(B).", "B. a green square", "(B) A green square.",
     "B a green square", "B: green square", "B.green square"],
)  # fmt: skip
def test_an_option_may_be_named_in_any_letter_form(answer: str) -> None:
    assert accuracy_reward(CHOICE, said(answer)) == 1.0


@pytest.mark.parametrize(
    "answer", ["A", "C", "D", "", "B. red", "a green square", "Because", "BC", "B or C", "B, C", "(B", "2"]
)
def test_anything_else_is_not_the_option(answer: str) -> None:
    assert accuracy_reward(CHOICE, said(answer)) == 0.0


def test_a_lone_article_is_the_letter_a_only_as_the_whole_answer() -> None:
    assert read_letter("a", ("red", "green")) == "A"
    assert read_letter("a red one", ("red", "green")) is None


def test_the_ground_truth_may_have_parentheses_too() -> None:
    assert accuracy_reward(GROUNDED, said("B")) == 1.0
    assert answer_in_words(GROUNDED) == "B. green"
    assert answer_in_words(WHEN) == "2 to 6"


def test_the_last_answer_counts_and_without_one_there_is_no_reward() -> None:
    assert accuracy_reward(CHOICE, said("A") + said("B")) == 1.0
    assert accuracy_reward(CHOICE, said("B") + said("A")) == 0.0
    assert accuracy_reward(CHOICE, "B") == 0.0


@pytest.mark.parametrize(
    ("truth", "answer", "expected"),
    [
        ("3", "3", 1), ("3", "3.0", 1), ("3", "3.", 1), ("1000", "1,000", 1), ("1,000", "1000.0", 1), ("-2", "-2", 1),
        ("0.5", ".5", 1), ("3.14", "3.141", 1), ("3.14", "3.15", 0), ("1e12", "1000000000000.1", 1), ("3", "three", 0),
        ("3", "3 shapes", 0), ("3", "3 4", 0), ("0", "nan", 0), ("0", "", 0), ("1", "1_0", 0), ("3", "1e999", 0),
    ],
)  # fmt: skip
def test_numbers_are_compared_as_numbers(truth: str, answer: str, expected: int) -> None:
    # 1e12 against 1e12 + 0.1: relative error 1e-13; 3.14 against 3.141: equal after rounding to two decimals
    assert accuracy_reward(make("numerical", truth), said(answer)) == expected


def test_regression_is_one_minus_the_relative_error() -> None:
    assert accuracy_reward(make("regression", "10"), said("9")) == pytest.approx(0.9)
    assert accuracy_reward(make("regression", "10"), said("-10")) == 0.0
    assert accuracy_reward(make("regression", "0"), said("0")) == 1.0
    assert accuracy_reward(make("regression", "0"), said("0.1")) == 0.0


@pytest.mark.parametrize(
    ("truth", "answer", "expected"),
    [
        ("EXIT 9", "exit  9", 1), ("EXIT 9", "EXIT 8", 1 / 2), ("EXIT 9", "EXIT", 1 / 2), ("EXIT", "EXIT 9", 0),
        ("a b c d", "a c d e", 1 - 2 / 4), ("EXIT 9", "exit, 9", 1 / 2), ("a", "b c d", 0), ("no entry today", "today", 1 / 3),
    ],
)  # fmt: skip
def test_a_transcription_earns_one_minus_its_word_error_rate(truth: str, answer: str, expected: float) -> None:
    # "a b c d" to "a c d e": b deleted, e inserted, 2 of 4. "a" to "b c d": 3 errors on 1 word, floored at 0
    assert accuracy_reward(make("ocr", truth), said(answer)) == pytest.approx(expected)


def test_word_error_rate_is_not_bounded_and_needs_a_reference() -> None:
    assert word_error_rate(["a"], ["b", "c", "d"]) == 3.0
    with pytest.raises(ValueError, match="no words"):
        word_error_rate([], ["a"])


@pytest.mark.parametrize(
    ("truth", "answer", "expected"),
    [
        ("The red car.", "the RED car", 1.0),
        ("dog", "Dog!", 1.0),  # one word: there are no pairs to share
        ("red car", "car", 2 / 3),  # ROUGE-1 = ROUGE-L = 2 * 1 / (2 + 1), no pairs in "car"
        ("red car", "car red", (1 + 1 / 2 + 0) / 3),  # all words, a common subsequence of one, no pair
        ("the cat sat on the mat", "the cat lay on the mat", (5 / 6 + 3 / 5 + 5 / 6) / 3),
        ("red", "red red red", 1 / 2),  # 2 * 1 / (1 + 3): a repeated word is shared once
        ("red car", "blue bus", 0.0),
        ("...", "?", 0.0),  # no words on either side
    ],
)
def test_a_free_answer_earns_its_mean_rouge(truth: str, answer: str, expected: float) -> None:
    assert accuracy_reward(make("free_form", truth), said(answer)) == pytest.approx(expected)


# rouge-score 0.1.2, RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False).score(first, second), fmeasure
ROUGE_SCORE = [
    ("the cat sat on the mat", "the cat lay on the mat", 0.833333333333, 0.6, 0.833333333333),
    ("A man is dunking a basketball.", "a man dunks the ball", 0.363636363636, 0.222222222222, 0.363636363636),
    ("one two three four five", "five four three two one", 1.0, 0.0, 0.2),
    ("red", "red red red", 0.5, 0.0, 0.5),
    ("He pours water, then milk, into the bowl", "milk then water is poured into a bowl", 0.625, 0.0, 0.375),
    ("3 apples", "three apples", 0.5, 0.0, 0.5),
]


@pytest.mark.parametrize(("truth", "answer", "one", "two", "longest"), ROUGE_SCORE)
def test_rouge_is_that_of_the_reference_package(
    truth: str, answer: str, one: float, two: float, longest: float
) -> None:
    expected, given = words(truth), words(answer)
    assert rouge_n(expected, given, 1) == pytest.approx(one)
    assert rouge_n(expected, given, 2) == pytest.approx(two)
    assert rouge_l(expected, given) == pytest.approx(longest)


# jiwer 4.0.0, jiwer.wer(first, second)
JIWER = [
    ("no entry today", "today", 0.666666666667),
    ("EXIT 9", "EXIT 8 now", 1.0),
    ("a b c d", "a c d e", 0.5),
    ("Speed limit 50 km", "speed limit 50 km/h", 0.5),
    ("one", "one one one one", 3.0),
]


@pytest.mark.parametrize(("truth", "answer", "rate"), JIWER)
def test_word_error_rate_is_that_of_the_reference_package(truth: str, answer: str, rate: float) -> None:
    assert word_error_rate(truth.split(), answer.split()) == pytest.approx(rate)


def test_fall_backs_read_what_the_strict_parser_does_not_and_only_by_name() -> None:
    bare, thought = "B", "<think>A or B?</think> B"
    assert score(CHOICE, bare, ("accuracy",))[1] == score(CHOICE, thought, ("accuracy",))[1] == 0.0
    for text in (bare, thought):
        assert score(CHOICE, text, ("accuracy",), fallbacks=("whole_response",))[1] == 1.0
    assert score(CHOICE, said("a green square"), ("accuracy",), fallbacks=("option_text",))[1] == 1.0
    assert score(CHOICE, "a green square", ("accuracy",), fallbacks=("option_text",))[1] == 0.0
    assert score(CHOICE, said("green"), ("accuracy",), fallbacks=("option_text",))[1] == 0.0
    assert score(CHOICE, "B" + said("A"), ("accuracy",), fallbacks=("whole_response",))[1] == 0.0  # a block is there
    assert score(CHOICE, bare, ("format",), fallbacks=("whole_response",))[1] == 0.0
    twins = make("multiple_choice", "A", options=("red", "Red."))
    assert score(twins, said("red"), ("accuracy",), fallbacks=("option_text",))[1] == 0.0  # names both
    assert RewardSettings(answer_fallbacks=("whole_response",)).answer_fallbacks == ("whole_response",)
    with pytest.raises(ValueError, match="answer_fallbacks"):
        RewardSettings.model_validate({"answer_fallbacks": ["first_letter"]})


def test_format_is_the_whole_response() -> None:
    assert format_reward(CHOICE, said("B")) == 1.0
    assert format_reward(CHOICE, "\n" + said("B") + "\n") == 1.0
    assert format_reward(CHOICE, said("B") + " and so on") == 0.0
    assert format_reward(CHOICE, said("B") + said("B")) == 0.0


def test_the_format_of_grounded_qa_has_one_glue_block_at_its_end() -> None:
    glue = "<glue>2 to 6</glue>"
    assert format_reward(GROUNDED, said("B") + glue) == 1.0
    assert format_reward(GROUNDED, said("B")) == 0.0
    assert format_reward(GROUNDED, glue + said("B")) == 0.0
    assert format_reward(GROUNDED, said("B") + glue + glue) == 0.0


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("2 to 6", ((2, 6),)),
        ("12.54 to 17.83 seconds", ((12.54, 17.83),)),
        ("[(1, 2), (5.5, 7)]", ((1, 2), (5.5, 7))),
        ("1-2 and then 4 and 5", ((1, 2), (4, 5))),
        ("6 to 2", ((6, 2),)),
        ("-3 to 5", ()),
        ("4", ()),
    ],
)
def test_intervals_are_read_in_several_forms(text: str, spans: tuple[tuple[float, float], ...]) -> None:
    assert read_spans(text) == spans


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        ([(2, 6)], [(2, 6)], 1.0),
        ([(0, 4)], [(2, 6)], 2 / 6),
        ([(0, 3), (2, 4)], [(2, 6)], 2 / 6),  # overlapping ones are merged to (0, 4)
        ([(2, 4), (2, 4)], [(2, 4)], 1.0),
        ([(0, 1), (3, 4)], [(0, 1), (3, 4)], 1.0),
        ([(0, 1)], [(0, 1), (3, 4)], 0.5),
        ([(7, 8)], [(2, 6)], 0.0),
        ([(6, 2)], [(2, 6)], 0.0),  # reversed
        ([(2, 6), (8, 7)], [(2, 6)], 0.0),
        ([(3, 3)], [(3, 3)], 0.0),  # the union has no length
        ([], [], 0.0),
        ([], [(2, 6)], 0.0),
        ([(2, math.inf)], [(2, 6)], 0.0),
    ],
)
def test_iou_is_over_sets_of_intervals(
    predicted: list[tuple[float, float]], truth: list[tuple[float, float]], expected: float
) -> None:
    assert interval_iou(predicted, truth) == pytest.approx(expected)


_SPANS = st.lists(
    st.tuples(st.integers(0, 50), st.integers(1, 20)).map(lambda pair: (pair[0], pair[0] + pair[1])),
    min_size=1,
    max_size=5,
)


@settings(max_examples=50, deadline=None)
@given(_SPANS, _SPANS)
def test_iou_agrees_with_counting_whole_seconds(predicted: list[tuple[int, int]], truth: list[tuple[int, int]]) -> None:
    one, other = ({t for start, end in spans for t in range(start, end)} for spans in (predicted, truth))
    assert interval_iou(predicted, truth) == pytest.approx(len(one & other) / len(one | other))


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=60))
def test_no_text_breaks_a_reward(text: str) -> None:
    for sample in (CHOICE, GROUNDED, WHEN, make("numerical", "3"), make("regression", "3"), make("free_form", "x")):
        for answer in (text, said(text), said("B") + f"<glue>{text}</glue>"):
            rewards, total = score(sample, answer, ("format", "accuracy", "iou"))
            assert all(0 <= value <= 1 for value in rewards.values())
            assert 0 <= total <= max_reward(sample, ("format", "accuracy", "iou"))


def test_grounded_qa_reads_its_intervals_from_the_glue_block() -> None:
    assert iou_reward(GROUNDED, said("B") + "<glue>[(2, 4)]</glue>") == pytest.approx(0.5)
    assert iou_reward(GROUNDED, said("2 to 6")) == 0.0


def test_accuracy_of_temporal_grounding_is_the_iou() -> None:
    assert accuracy_reward(WHEN, said("0 to 4")) == pytest.approx(2 / 6)


def test_the_reward_is_the_weighted_sum_of_what_applies() -> None:
    names = ("format", "accuracy", "iou")
    assert score(CHOICE, said("B"), names) == ({"format": 1.0, "accuracy": 1.0}, 2.0)
    assert score(CHOICE, said("B"), names, {"format": 0.5, "accuracy": 2.0}) == ({"format": 1.0, "accuracy": 1.0}, 2.5)
    assert max_reward(CHOICE, names, {"format": 0.5, "accuracy": 2.0}) == 2.5
    rewards, total = score(GROUNDED, said("A") + "<glue>2 to 4</glue>", names)
    assert rewards == {"format": 1.0, "accuracy": 0.0, "iou": 0.5} and total == 1.5
    assert max_reward(GROUNDED, names) == 3.0


def test_a_sample_that_no_reward_applies_to_is_named() -> None:
    with pytest.raises(RewardError, match="sample s "):
        max_reward(CHOICE, ("iou",))


OWN = """
def short(sample, text): return 1 / (1 + len(text))
def nan(sample, text): return float("nan")
def word(sample, text): return "good"
def large(sample, text): return 2
def broken(sample, text): raise KeyError("x")
def one_argument(text): return 1.0
number = 3
"""


@pytest.fixture
def own_rewards(tmp_path, monkeypatch):
    (tmp_path / "own_rewards.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("own_rewards", None)


def test_ones_own_reward_is_found_by_its_import_path(own_rewards) -> None:
    names = ("accuracy", "own_rewards:short")
    check_rewards(RewardSettings(reward_funcs=names).reward_funcs)
    text = said("B")
    rewards, total = score(CHOICE, text, names)
    assert rewards["own_rewards:short"] == 1 / (1 + len(text))
    assert total == 1 + rewards["own_rewards:short"]
    assert list(reward_versions(names)) == ["own_rewards:short"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_rewards:nothing", "has no 'nothing'"),
        ("own_rewards:number", "is not a function"),
        ("own_rewards:one_argument", r"must take \(sample, text\)"),
        ("not_installed_here:reward", "cannot import 'not_installed_here'"),
    ],
)
def test_a_reward_that_cannot_be_used_is_refused_before_work_starts(own_rewards, name: str, message: str) -> None:
    with pytest.raises(RewardError, match=message):
        check_rewards([name])


@pytest.mark.parametrize("name", ["nan", "word", "large", "broken"])
def test_a_value_that_is_no_reward_is_an_error_that_names_it(own_rewards, name: str) -> None:
    with pytest.raises(RewardError, match=f"own_rewards:{name}.* sample s"):
        score(CHOICE, said("B"), [f"own_rewards:{name}"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reward_funcs": ["acuracy"]}, "'acuracy' is neither one of accuracy, format, iou nor a path"),
        ({"reward_funcs": ["format", "format"]}, "appears twice"),
        ({"reward_funcs": []}, "at least 1"),
        ({"reward_weights": {"iou": 1.0}}, r"\['iou'\] are not among"),
        ({"reward_weights": {"accuracy": -1.0}}, "not negative"),
        ({"reward_weights": {"accuracy": math.nan}}, "finite"),
        ({"reward_weights": {"format": 0.0, "accuracy": 0.0}}, "above 0"),
    ],
)
def test_wrong_reward_settings_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RewardSettings.model_validate(fields)


def test_numbers_with_units_are_no_numbers() -> None:
    assert read_number("3 s") is None and read_number("$3") is None and read_number("-1,250.5") == -1250.5
