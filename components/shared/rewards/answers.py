"""Reading answers: option letters, numbers, intervals and plain text, brought to one form before they are compared."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Literal

from components.shared.prompts import extract_answer, option_letter
from components.shared.schemas import Sample, Span

Fallback = Literal["whole_response", "option_text"]

_LETTER = re.compile(r"(?:\(([A-Za-z])\)|([A-Za-z])\)?)(?:[.:]?|(?:[.:]\s*|\s+)(?P<text>\S.*))", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?", re.ASCII)
_SPAN = re.compile(
    r"(?<![\d.-])(\d+(?:\.\d+)?)\s*(?:s|sec|seconds)?\s*(?:to|and|,|-|–|—)\s*(\d+(?:\.\d+)?)(?!\.?\d)", re.ASCII
)
_GLUE = re.compile(r"<glue>((?:(?!</?glue>).)*)</glue>", re.DOTALL)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def find_answer(text: str, fallbacks: Collection[Fallback] = ()) -> str | None:
    """The text of the last <answer> block, stripped; None if there is none, which is the strict reading.

    With the fall-back `whole_response` a response without such a block is an answer as a whole, but for its reasoning
    (what stands before the last </think>).
    """
    answer = extract_answer(text)
    if answer is None and "whole_response" in fallbacks:
        return text.rpartition("</think>")[2].strip()
    return answer


def words(text: str) -> list[str]:
    """The text's words, lower case, without punctuation."""
    return "".join(char if char.isalnum() else " " for char in text.casefold()).split()


def normalise_text(text: str) -> str:
    """Lower case, punctuation as spaces, no articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", " ".join(words(text))).split())


def read_letter(text: str, options: tuple[str, ...], fallbacks: Collection[Fallback] = ()) -> str | None:
    """The option's letter that a whole answer names, upper case; None if it names none.

    Read as B: `B`, `b`, `(B)`, `B.`, `B)`, `(B).`, `B:`, and each of these followed by the text of option B. The letter
    of no option, a letter with another option's text, an option's text alone and anything longer are no letter; with
    the fall-back `option_text` the text of one option alone names it.
    """
    letter = _named_letter(text, options)
    if letter is None and "option_text" in fallbacks:
        same = [i for i, option in enumerate(options) if normalise_text(option) == normalise_text(text)]
        return option_letter(same[0]) if len(same) == 1 else None
    return letter


def _named_letter(text: str, options: tuple[str, ...]) -> str | None:
    found = _LETTER.fullmatch(text.strip())
    if not found:
        return None
    letter = (found.group(1) or found.group(2)).upper()
    index = ord(letter) - ord("A")
    if index >= len(options):
        return None
    stated = found.group("text")
    if stated and normalise_text(stated) != normalise_text(options[index]):
        return None
    return letter


def read_number(text: str) -> float | None:
    """The number that a whole answer is, its commas removed ("1,000" is 1000); None if it is not one finite number."""
    if not _NUMBER.fullmatch(text.strip()):
        return None
    value = float(text.strip().replace(",", ""))
    return value if math.isfinite(value) else None


def read_spans(text: str) -> tuple[Span, ...]:
    """A text's intervals in seconds, in its order: `START to END`, `START and END`, `START - END` or `(START, END)`."""
    return tuple((float(start), float(end)) for start, end in _SPAN.findall(text))


def read_glue(text: str) -> str | None:
    """The text of the last <glue> block of a response; None if there is none."""
    found = _GLUE.findall(text)
    return found[-1] if found else None


def strip_final_glue(text: str) -> str:
    """The response without the <glue> block that ends it, if one does."""
    found = list(_GLUE.finditer(text))
    if found and not text[found[-1].end() :].strip():
        return text[: found[-1].start()]
    return text


def answer_in_words(sample: Sample) -> str:
    """The ground truth as one would say it: `B. red` for an option, else the answer itself."""
    for index, option in enumerate(sample.options):
        if read_letter(sample.answer, sample.options) == option_letter(index):
            return f"{option_letter(index)}. {option}"
    return sample.answer
