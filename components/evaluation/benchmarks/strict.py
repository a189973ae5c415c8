"""The `strict` protocol, ours: the last <answer> block, read by the rewards' parser; what cannot be read counts as wrong."""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction

from components.evaluation.benchmarks.contracts import Decoding, FramePolicy, Scored, Scoring, StrictScorer
from components.shared.prompts import question_text
from components.shared.rewards.accuracy import same_number
from components.shared.rewards.answers import Fallback, find_answer, normalise_text, read_letter, read_number
from components.shared.schemas import Sample

GREEDY = Decoding(temperature=0.0, max_new_tokens=1024)
NO_BLOCK, EMPTY = "no <answer> block", "empty answer"


def strict_score(sample: Sample, text: str, fallbacks: Collection[Fallback] = ()) -> Scored:
    """Letters for options, numbers for numerical (equal) and regression (mean relative accuracy), else normalised text."""
    answer = find_answer(text, fallbacks)
    if not answer:
        return Scored(score=0.0, failure=NO_BLOCK if answer is None else EMPTY)
    if sample.options:
        letter = read_letter(answer, sample.options, fallbacks)
        if letter is None:
            return Scored(score=0.0, parsed=answer, failure="names no option")
        return Scored(score=float(letter == read_letter(sample.answer, sample.options)), parsed=letter)
    if sample.task in ("numerical", "regression"):
        number = read_number(answer)
        if number is None:
            return Scored(score=0.0, parsed=answer, failure="not a number")
        if sample.task == "numerical":
            return Scored(score=float(same_number(number, read_number(sample.answer))), parsed=answer)
        return Scored(score=mean_relative_accuracy(answer, sample.answer), parsed=answer)
    given, truth = normalise_text(answer), normalise_text(sample.answer)
    if not given:
        return Scored(score=0.0, parsed=answer, failure="no words")
    return Scored(score=float(given == truth), parsed=answer)


def mean_relative_accuracy(given: str, truth: str) -> float:
    """Share of theta in {.5, .55, ..., .95} with |given - truth| / |truth| < 1 - theta (VSI-Bench, arXiv 2412.14171, eq. 1).

    In exact fractions: an error of 0.2 meets 6 of the 10, whatever floats make of it. A truth of 0 is met by 0 alone.
    """
    value, target = _exact(given), _exact(truth)
    if target == 0:
        return float(value == 0)
    error = abs(value - target) / abs(target)
    return sum(error < Fraction(k, 20) for k in range(1, 11)) / 10


def _exact(number: str) -> Fraction:
    return Fraction(number.strip().replace(",", ""))


def strict_protocol(frames: FramePolicy, score: StrictScorer = strict_score) -> Scoring:
    """The strict protocol of a benchmark: the project's own prompt and a greedy answer."""
    return Scoring("strict", 1, "this project", score, question_text, frames, GREEDY, fallbacks=())
