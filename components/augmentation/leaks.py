"""Where a text first gives the answer away: by letter, option text, a number in digits or words, or a span's end."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from components.shared.rewards.accuracy import same_number
from components.shared.rewards.answers import normalise_text, read_letter, read_number
from components.shared.schemas import Sample

_NUMBER = re.compile(r"(?<![\w.])-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?!\w)", re.ASCII)
_WORDS = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
]
_NUMBER_WORD = re.compile(rf"\b(?:{'|'.join(_WORDS)})\b", re.IGNORECASE)
_NEAR = 0.5  # seconds: a time this close to a span's end tells it


def first_leak(text: str, sample: Sample) -> int | None:
    """The position in `text` of its first mention of the sample's ground truth in any form; None if it has none.

    A letter counts as the option's in upper case and as a whole word ("B", "(B)", "option B"), so that the article "a"
    is not the letter A; in parentheses or after "option" it counts in lower case too. What reads both ways counts: a
    hint that is too short does less harm than one that tells the answer.
    """
    return min(_mentions(text, sample), default=None)


def _mentions(text: str, sample: Sample) -> Iterator[int]:
    letter = read_letter(sample.answer, sample.options)
    if letter:
        yield from _starts(rf"(?<!\w)\(?{letter}(?!\w)|\(\s*{letter.lower()}\s*\)", text)
        yield from _starts(rf"\b(?:option|choice)\s*\(?{letter}(?!\w)", text, re.IGNORECASE)
        stated = sample.options[ord(letter) - ord("A")]
    else:
        stated = sample.answer
    number = _stated_number(stated)
    if number is None:
        yield from _phrase(stated, text)
    else:
        yield from (at for at, value in numbers(text) if same_number(value, number))
    ends = [end for span in sample.spans for end in span]
    yield from (at for at, value in numbers(text) if any(abs(value - end) <= _NEAR for end in ends))


def numbers(text: str) -> Iterator[tuple[int, float]]:
    """Position and value of the numbers in a text, in digits or as words from zero to twenty."""
    for found in _NUMBER.finditer(text):
        value = read_number(found.group().rstrip(","))
        if value is not None:
            yield found.start(), value
    for found in _NUMBER_WORD.finditer(text):
        yield found.start(), float(_WORDS.index(found.group().lower()))


def _stated_number(stated: str) -> float | None:
    word = stated.strip().lower()
    return float(_WORDS.index(word)) if word in _WORDS else read_number(stated)


def _phrase(stated: str, text: str) -> Iterable[int]:
    """Where the words of `stated` stand in the text, whatever case, punctuation and articles are between them."""
    words = [re.escape(word) for word in normalise_text(stated).split()]
    if not words:
        return ()
    between = r"[\W_]+(?:(?:a|an|the)[\W_]+)*"
    return _starts(rf"(?<![^\W_]){between.join(words)}(?![^\W_])", text, re.IGNORECASE)


def _starts(pattern: str, text: str, flags: re.RegexFlag = re.NOFLAG) -> Iterable[int]:
    return (found.start() for found in re.finditer(pattern, text, flags))
