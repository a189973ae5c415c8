"""The first number of a text as lmms-eval 0.7.3 reads it on VSI-Bench, in digits or in English words.

Facts from lmms_eval/tasks/vsibench/utils.py#extract_number.
"""

from __future__ import annotations

import re

_SMALL = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_WORDS = {word: value for value, word in enumerate(_SMALL)} | {word: 10 * n for n, word in enumerate(_TENS, start=2)}
_WORDS |= {"hundred": 100, "thousand": 1000}
_DIGITS = re.compile(r"-?\d+(?:\.\d+)?")


def words_first(text: str) -> bool:
    """Whether a number's word stands before any digit."""
    words, digits = _first_word(text), _DIGITS.search(text.lower())
    return words is not None and (digits is None or words.start() < digits.start())


def first_number(text: str) -> float | None:
    """The first number; None if there is none."""
    if words_first(text):
        return _spoken(text.lower())
    found = _DIGITS.search(text.lower())
    return float(found[0]) if found else None


def _first_word(text: str) -> re.Match[str] | None:
    return next((word for word in re.finditer(r"[a-z]+", text.lower()) if word[0] in _WORDS), None)


def _spoken(text: str) -> float:
    """The value of the run of number words that begins with the first of them; "and" may stand in it."""
    first = _first_word(text)
    assert first is not None
    thousands, rest = 0, 0
    for word in re.findall(r"[a-z]+", text[first.start() :]):
        if word == "and":
            continue
        if word not in _WORDS:
            break
        if word == "hundred":
            rest = max(rest, 1) * 100
        elif word == "thousand":
            thousands, rest = thousands + max(rest, 1) * 1000, 0
        else:
            rest += _WORDS[word]
    return float(thousands + rest)
