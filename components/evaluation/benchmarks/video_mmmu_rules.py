"""Video-MMMU's own rules, after MMMU's: many ways to name an option, key phrases and numbers for open questions."""

from __future__ import annotations

import re
from collections.abc import Callable

from components.evaluation.benchmarks.contracts import Scored
from components.evaluation.benchmarks.rows import lettered
from components.shared.prompts import option_letter
from components.shared.schemas import Sample

SOURCE = (
    "EvolvingLMMs-Lab/VideoMMMU@88b4ac3e07326eaabda3a4afe8e7f30dd02bc143 "
    "lmms_eval/tasks/videommmu/utils.py#videoperception_process_results, evaluate_mmmu"
)
_EDGES = (",", ".", "!", "?", ";", ":", "'")
_LEADS = (
    "could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ", "are ", "in total ", "total ",
    "identify ", "recognize ", "calculated as ", "counted as ", "measured as ", "observed as ", "concluded as ",
    "found to be ", "equals ", "determined to be ", "number of ", "value is ", "adds up to ", "have ", "has ",
)  # fmt: skip
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)


def official_score(sample: Sample, text: str) -> Scored:
    """By the row's question_type. An empty response is taken for an API error and leaves the denominator."""
    if text in ("", "API Error"):
        return Scored(score=None, failure="empty: taken for an API error and left out of the denominator")
    kind = sample.metadata["question_type"]
    if kind == "multiple-choice":
        letter = option_named(text, sample)
        return Scored(
            score=float(letter == sample.answer), parsed=letter or "", failure="" if letter else "names no option"
        )
    if kind == "perception":  # read as an open question, compared as a letter: never equal
        return Scored(score=0.0, parsed=text, failure="the original compares a list with a letter")
    stated = open_answers(text)
    return Scored(score=float(is_stated(sample.answer, stated)), parsed=" | ".join(map(str, stated)))


def option_named(text: str, sample: Sample) -> str | None:
    """The option that a response names last: as `X.` or `X:`, else `(X)`, else `X `, else by its text in over five words."""
    for char in _EDGES:
        text = text.strip(char)
    text = f" {text} "
    letters = [option_letter(index) for index in range(len(sample.options))]
    points = [letter for letter in letters if f"{letter}." in text]
    colons = [letter for letter in letters if f"{letter}:" in text]
    if points or colons:
        mark = "{}." if points else "{}:"
        return _last(points + colons, lambda letter: text.rfind(mark.format(letter)))
    if brackets := [letter for letter in letters if f"({letter})" in text]:
        return _last(brackets, lambda letter: text.rfind(f"({letter})"))
    if spaced := [letter for letter in letters if f"{letter} " in text]:
        return _last(spaced, lambda letter: text.rfind(f" {letter} "))  # -1 where it only ends a word
    if len(text.split()) <= 5:
        return None
    texts = dict(zip(letters, _as_in_the_file(sample), strict=True))
    told = [letter for letter in letters if texts[letter].lower() in text.lower()]
    return _last(told, lambda letter: text.lower().rfind(texts[letter].lower())) if told else None


def _as_in_the_file(sample: Sample) -> list[str]:
    return lettered(sample.options) if sample.metadata["letters"] else list(sample.options)


def _last(letters: list[str], position: Callable[[str], int]) -> str:
    """The letter that stands last; the first of those at one place."""
    return max(letters, key=position)


def open_answers(text: str) -> list[str | float]:
    """What a response may have meant: the shortest tail behind a key phrase, a line at a time, and all numbers in these."""
    tails = _tails(text)
    found = [*tails, *(number for tail in tails for pattern in _NUMBERS for number in pattern.findall(tail))]
    return list(dict.fromkeys(value for item in found for value in _normalised(item)))


def _tails(text: str) -> list[str]:
    """The original splits at points before capitals, but after it made all letters small: only lines are split."""
    whole = text.strip().strip(".").lower()
    lines = re.split(r"\.\s(?=[A-Z])|\n", whole)
    kept = []
    for index, line in enumerate(lines):
        leads = _LEADS + (("=",) if index == len(lines) - 1 else ())
        tails = [line.split(lead)[-1].strip() for lead in leads if lead in line]
        shortest = _shortest(tails)
        if shortest and shortest not in (":", ",", ".", "!", "?", ";", "'"):
            kept.append(shortest)
    return kept or [whole]


def _shortest(tails: list[str]) -> str:
    """The first of the shortest; an empty one is replaced by whatever comes next, as in the original."""
    shortest = ""
    for tail in tails:
        if not shortest or len(tail) < len(shortest):
            shortest = tail
    return shortest


def _normalised(text: str) -> list[str | float]:
    """A number rounded to two decimals, or small letters; a single one with a space on either side, so as not to be any."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        small = text.lower()
        return [f" {small}", f"{small} "] if len(small) == 1 else [small]


def is_stated(truth: str, stated: list[str | float]) -> bool:
    """Whether one of the texts holds the truth, or one of the numbers is it."""
    expected = _normalised(truth)
    return any(
        any(isinstance(form, str) and form in item for form in expected) if isinstance(item, str) else item in expected
        for item in stated
    )
