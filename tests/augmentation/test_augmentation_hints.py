"""Where a reasoning gives the answer away, and what is left of it as a hint."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.augmentation.hints import best_response, cut, make_hint
from components.augmentation.leaks import first_leak
from components.shared.schemas import Response, Sample
from tests.round_fixtures import RIGHT, WRONG, sample, tokenizer


def make(task: str, answer: str, **fields: object) -> Sample:
    return Sample.model_validate({"id": "s", "video": "v", "question": "?", "task": task, "answer": answer, **fields})


def choice(letter: str, *options: str) -> Sample:
    return make("multiple_choice", letter, options=options)


GREEN = choice("B", "red", "top left", "blue")
FIRST = choice("A", "red", "green")
THREE = make("numerical", "3")
FIFTEEN = make("numerical", "1,500")
WHEN = make("temporal_grounding", "2 to 6.4", spans=[(2.0, 6.4)])
FREE = make("free_form", "The blue car")
COUNT = choice("C", "one", "2", "three")


@pytest.mark.parametrize(
    ("question", "text", "before"),
    [
        (GREEN, "it is B.", "it is "),
        (GREEN, "clearly (B) here", "clearly "),
        (GREEN, "clearly (b) here", "clearly "),
        (GREEN, "so option b, then", "so "),
        (GREEN, "B", ""),
        (GREEN, "in the top left corner", "in the "),
        (GREEN, "in the TOP-left corner", "in the "),
        (GREEN, "top of the left corner", None),
        (GREEN, "stopped; a Bee; b-side; ABC; topleft", None),
        (GREEN, "not A, not C", None),
        (FIRST, "a man and a dog", None),  # the article is not the letter
        (FIRST, "it is A", "it is "),
        (FIRST, "option A", ""),
        (FIRST, "the Red one", "the "),
        (FIRST, "it is reddish", None),
        (THREE, "there are 3 of them", "there are "),
        (THREE, "there are three", "there are "),
        (THREE, "there are Three.", "there are "),
        (THREE, "exactly 3.0 of them", "exactly "),
        (THREE, "there are 13, or 3.5, or 30, or thirteen", None),
        (FIFTEEN, "about 1500 of them", "about "),
        (FIFTEEN, "about 1,500, no more", "about "),
        (WHEN, "it starts at 2 and", "it starts at "),
        (WHEN, "it ends at 6 s", "it ends at "),  # within half a second of 6.4
        (WHEN, "it starts at second two", "it starts at second "),
        (WHEN, "not at 1, not at 7.", None),
        (FREE, "I see the  Blue, car", "I see the  "),
        (FREE, "I see a blue and a car", None),
        (COUNT, "I count 3", "I count "),
        (COUNT, "I count three", "I count "),
    ],
)
def test_the_answer_is_found_in_any_form(question: Sample, text: str, before: str | None) -> None:
    found = first_leak(text, question)
    assert (text if found is None else text[:found]) == (text if before is None else before)


def characters(text: str) -> list[int]:
    return list(range(1, len(text) + 1))


def test_a_hint_is_the_leading_share_of_the_tokens() -> None:
    assert cut("0123456789", FREE, 0.5, 100, characters) == "01234"
    assert cut("0123456789", FREE, 0.59, 100, characters) == "01234"
    assert cut("0123456789", FREE, 0.7, 100, characters) == "0123456"  # 0.7 * 10 is 7, whatever floats make of it
    assert cut("0123456789", FREE, 0.5, 3, characters) == "012"
    assert cut("0123456789", FREE, 0.05, 100, characters) == ""


def test_a_cut_does_not_make_an_answer_of_something_else() -> None:
    assert cut("it is Bee", GREEN, 0.79, 100, characters) == "it is"  # 7 characters are "it is B"
    assert cut("there are 35 of them", THREE, 0.55, 100, characters) == "there are"  # 11 are "there are 3"


def test_a_hint_does_not_begin_to_tell_the_answer() -> None:
    # 8 of 16 characters are "i see to"; the answer "top left" begins at 6
    assert cut("i see top left..", GREEN, 0.5, 100, characters) == "i see"


def test_tokens_of_several_bytes_are_not_cut_apart() -> None:
    made = tokenizer()
    ends = lambda text: [end for _, end in made.encode(text).offsets]  # noqa: E731
    for fraction in (0.2, 0.35, 0.5, 0.65, 0.8):
        assert "é→ 日本".startswith(cut("é→ 日本", FREE, fraction, 100, ends))


def response(text: str, index: int, reward: float, logprob: float = -1.0) -> Response:
    return Response(
        index=index, seed=0, token_ids=(1, 2), text=text, logprobs=(logprob, 0.0), finish_reason="stop", reward=reward
    )


def test_the_best_response_has_the_highest_reward_then_log_prob_then_the_lowest_index() -> None:
    one, two, three, four = (response("", i, r, lp) for i, r, lp in [(0, 1, -1), (1, 2, -3), (2, 2, -2), (3, 2, -2)])
    assert best_response([one, two, three, four]) is three
    assert best_response([one, two]) is two
    assert best_response([four, three]) is three


def test_a_hint_comes_from_a_right_response_only() -> None:
    question = sample(0)  # B, green
    hint = make_hint(question, [response(WRONG, 0, 9.0), response(RIGHT, 1, 2.0)], 0.7, 100, characters)
    assert hint.text == "look at the square. not red." and hint.reason == ""  # 0.7 of 41 characters are 28
    assert make_hint(question, [response(WRONG, 0, 9.0)], 0.8, 100, characters).reason == "no response right"
    bare = response("<answer>B</answer>", 0, 1.0)
    assert make_hint(question, [bare], 0.8, 100, characters).reason == "no reasoning"
    told = response("<think>B it is</think><answer>B</answer>", 0, 1.0)
    assert make_hint(question, [told], 0.8, 100, characters).reason == "nothing left"


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="aAbB (.)gren3-", max_size=30), st.floats(0, 0.8))
def test_no_hint_names_the_answer(reasoning: str, fraction: float) -> None:
    question = sample(0)
    hint = cut(reasoning, question, fraction, 100, characters)
    assert reasoning.startswith(hint)
    assert first_leak(hint, question) is None


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="0123 .,three-", max_size=30), st.floats(0, 0.8))
def test_no_hint_names_the_number(reasoning: str, fraction: float) -> None:
    hint = cut(reasoning, THREE, fraction, 100, characters)
    assert reasoning.startswith(hint)
    assert first_leak(hint, THREE) is None
