"""Every rule by which lmms-eval 0.7.3 scores a benchmark otherwise than its `official` protocol here."""

from __future__ import annotations

import re
import string

from components.evaluation.benchmarks import tempcompass_rules, vsi_bench
from components.evaluation.benchmarks.crosscheck.contracts import Answered, Rule, Score, scored_as
from components.evaluation.benchmarks.crosscheck.letters import letter_rules
from components.evaluation.benchmarks.crosscheck.numbers import first_number, words_first
from components.shared.prompts import option_letter

_Foretold = frozenset[Score] | None


# LongVideoBench: lmms-eval's scorer is the official one.


def _drawn(answered: Answered) -> _Foretold:
    return frozenset({0.0, 1.0}) if answered.official not in (0.0, 1.0) else None


# VSI-Bench: numbers are sought in the whole response.


def _number(answered: Answered, in_words: bool) -> _Foretold:
    if answered.sample.options or words_first(answered.text) != in_words:
        return None
    given = first_number(answered.text)
    return None if given is None else frozenset({vsi_bench.relative_accuracy(given, float(answered.sample.answer))})


# MVBench: a letter is sought in the whole response.

_LETTER_AND_POINT = re.compile(r"^([A-E])\.\s*(.+)$", re.IGNORECASE)
_LONE_LETTER = re.compile(r"\b[A-E]\b", re.IGNORECASE)
_MARKS = ';/[]"{}()=+\\_-><@`,?!'


def _first_equal(answered: Answered) -> str:
    """The first candidate that is equal to the true one; the official scorer takes the last."""
    options = answered.sample.options
    return option_letter(options.index(options[ord(answered.sample.answer) - ord("A")]))


def _twice(answered: Answered) -> _Foretold:
    if _first_equal(answered) == answered.sample.answer or not answered.text:
        return None
    return _letter_and_point(answered) or _lone_letter(answered) or scored_as(False)


def _empty(answered: Answered) -> _Foretold:
    return frozenset({None}) if not answered.text else None


def _letter_and_point(answered: Answered) -> _Foretold:
    found = _LETTER_AND_POINT.match(answered.text.strip())
    return scored_as(found[1].upper() == _first_equal(answered)) if found else None


def _lone_letter(answered: Answered) -> _Foretold:
    text = bare = re.sub(r"[\n\t]", " ", answered.text).strip()
    comma = re.search(r"\d,\d", text)
    for mark in _MARKS:  # taken out where one of its kind stands beside a blank, else made a blank
        bare = bare.replace(mark, "" if comma or f"{mark} " in text or f" {mark}" in text else " ")
    bare = re.sub(
        r"\.(?!\d)", "", bare, count=32
    )  # a slip of lmms-eval's: re.UNICODE, which is 32, stands for the count
    found = _LONE_LETTER.search(bare)
    return scored_as(found[0].upper() == _first_equal(answered)) if found else None


def _no_letter(answered: Answered) -> _Foretold:
    return scored_as(False)


# TempCompass: the rules are the official ones, on the response as it is.


def _not_cleaned(answered: Answered) -> _Foretold:
    if answered.sample.metadata["form"] == "captioning" or answered.text == tempcompass_rules.cleaned(answered.text):
        return None
    right = tempcompass_rules.matched(answered.sample, answered.text)
    if right is not None:
        return scored_as(right)
    judged = tempcompass_rules.read_judgement(answered.sample, answered.judge_reply or "")
    return frozenset({judged or 0.0})


def _failed_judge(answered: Answered) -> _Foretold:
    return scored_as(False) if answered.official == -1 else None


# MMVU: rules instead of a judge.


def _stands_alone(answered: Answered) -> _Foretold:
    found = re.search(rf"\b{answered.sample.answer}\b", answered.text, re.IGNORECASE)
    return scored_as(True) if found else None


def _true_option(answered: Answered) -> str:
    return answered.sample.options[ord(answered.sample.answer) - ord("A")].strip().lower()


def _option_text(answered: Answered) -> _Foretold:
    return scored_as(True) if _true_option(answered) in answered.text.lower() else None


def _letter_and_word(answered: Answered) -> _Foretold:
    words = [word.strip(string.punctuation) for word in _true_option(answered).split()]
    small = answered.text.lower()
    hit = answered.sample.answer.lower() in small and any(len(word) > 2 and word in small for word in words)
    return scored_as(True) if hit else None


RULES: dict[str, tuple[Rule, ...]] = {
    "longvideobench": (
        Rule(
            "drawn",
            "where no capital A to E stands it draws an option, from a generator that all questions share; here such a "
            "response earns the mean, 1 / options",
            _drawn,
        ),
    ),
    "vsi_bench": (
        Rule(
            "number in words",
            "the first number of the response counts, in words too (`There are four.` is 4); officially only the first word "
            "can be the number",
            lambda answered: _number(answered, in_words=True),
        ),
        Rule(
            "number anywhere",
            "the first digits of the response count, without exponent, thousands' commas or a leading point (`3m` is 3, "
            "`1,200` is 1, `.5` is 5); officially the first word must be a number as a whole",
            lambda answered: _number(answered, in_words=False),
        ),
    ),
    "video_mmmu": letter_rules(lambda answered: answered.sample.metadata["question_type"] == "multiple-choice"),
    "mmvu": (
        Rule(
            "letter alone",
            "the true letter standing alone anywhere, in either case, makes the response right: `A or C`, or the article `a`",
            _stands_alone,
        ),
        Rule("option's text", "the true option's text anywhere makes the response right", _option_text),
        Rule(
            "letter and a word",
            "the true letter inside any word, and any word of the true option (over two letters) inside any other, make the "
            "response right",
            _letter_and_word,
        ),
        Rule("nothing of it", "a response without any of these is wrong; no judge is asked", _no_letter),
    ),
    "mvbench": (
        Rule("empty", "an empty response leaves the denominator; officially it is right", _empty),
        Rule("equal candidates", "of candidates with one text the first is the true one, officially the last", _twice),
        Rule("letter and point", "a line `X. text` names X, in either case", _letter_and_point),
        Rule(
            "lone letter",
            "the first letter A to E that stands alone counts, in either case and wherever it is: the article `a`, the `d` of "
            "`I'd`; officially only the first word counts",
            _lone_letter,
        ),
        Rule("no letter", "a response without such a letter is wrong; officially `(` and `.` are right", _no_letter),
    ),
    "tempcompass": (
        Rule(
            "not cleaned",
            "blanks around the response and `</s>` stay, so that no rule may match: then the judge decides, and 0 counts "
            "without one",
            _not_cleaned,
        ),
        Rule("failed judge", "a caption whose judge failed is wrong; officially its -1 is added", _failed_judge),
    ),
    "video_mme": letter_rules(),
}
