"""Formats of annotation rows. Another data set's format is one more class here and its name in FORMATS."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Protocol

from components.ingest.errors import IngestError
from components.shared.prompts import option_letter

_LETTER = re.compile(r"\(?([A-Za-z])[).:]?")
_INTERVAL = re.compile(r"\d+(?:\.\d+)?\s*to\s*\d+(?:\.\d+)?")


class AnnotationFormat(Protocol):
    """Turns a row as a data set writes it into the fields of a Sample; `id` and `split` may be absent."""

    def recognises(self, row: Mapping[str, object]) -> bool:
        """Whether a row looks like this format."""

    def fields(self, row: Mapping[str, object]) -> dict[str, object]:
        """The fields of a Sample. Raises ValueError("field: what is wrong"); types are checked by Sample itself."""


class DeepVideoFormat:
    """The project's own: the fields of `Sample`. Required: video, question, answer, task.

    A multiple-choice answer may be the option's letter or its text; numbers may stand where text is expected.
    """

    def recognises(self, row: Mapping[str, object]) -> bool:
        return "video" in row and "question" in row

    def fields(self, row: Mapping[str, object]) -> dict[str, object]:
        found = {name: _text(value) for name, value in row.items() if value is not None}
        if isinstance(options := found.get("options"), list):
            found["options"] = [_text(option) for option in options]
        if "metadata" in found:
            found["metadata"] = _metadata(found["metadata"])
        if isinstance(found.get("answer"), str):
            found["answer"] = _answer(str(found["answer"]), found.get("options"), found.get("task"))
        return found


FORMATS: dict[str, AnnotationFormat] = {"deepvideo": DeepVideoFormat()}


def choose_format(name: str, rows: Iterable[Mapping[str, object]], file: str) -> AnnotationFormat:
    """The format called `name`, or for `auto` the first that recognises a row. Raises IngestError if there is none."""
    if name in FORMATS:
        return FORMATS[name]
    if name != "auto":
        raise IngestError(
            f"ingest.annotation_format: {name!r} is not known; use auto or one of {', '.join(sorted(FORMATS))}"
        )
    seen: set[str] = set()
    for row in rows:
        for candidate in FORMATS.values():
            if candidate.recognises(row):
                return candidate
        seen.update(row)
    raise IngestError(
        f"{file}: no known format fits its rows (fields: {', '.join(sorted(seen)[:12]) or 'none'}). The project's own "
        "format needs video, question, answer and task in each row"
    )


def _text(value: object) -> object:
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _metadata(value: object) -> object:
    """Values as text. Parquet gives a map as a list of pairs, and a struct's absent fields as None."""
    if isinstance(value, list) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        value = dict(value)
    if not isinstance(value, Mapping):
        return value
    return {name: str(item) for name, item in value.items() if item is not None}


def _answer(answer: str, options: object, task: object) -> str:
    if task in ("multiple_choice", "grounded_qa") and isinstance(options, list):
        return _letter(answer, [option for option in options if isinstance(option, str)])
    if task == "temporal_grounding" and not _INTERVAL.search(answer):
        raise ValueError(f"answer: {answer!r} is not START to END in seconds")
    return answer


def _letter(answer: str, options: list[str]) -> str:
    """The letter of the option that `answer` names by letter or by text; the answer itself if it names none."""
    letters = [option_letter(index) for index in range(len(options))]
    named = {letter for letter, option in zip(letters, options, strict=True) if _same(option, answer)}
    if (match := _LETTER.fullmatch(answer)) and match[1].upper() in letters:
        named.add(match[1].upper())
    if len(named) > 1:
        raise ValueError(f"answer: {answer!r} may mean any of the options {', '.join(sorted(named))}")
    return named.pop() if named else answer


def _same(one: str, other: str) -> bool:
    return " ".join(one.split()).casefold() == " ".join(other.split()).casefold()
