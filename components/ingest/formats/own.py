"""The project's own format: the fields of `Sample`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from components.ingest.formats.contracts import Terms, answer_letter

_INTERVAL = re.compile(r"\d+(?:\.\d+)?\s*to\s*\d+(?:\.\d+)?")


class DeepVideoFormat:
    """Required: video, question, answer, task.

    A multiple-choice answer may be the option's letter or its text; numbers may stand where text is expected.
    """

    terms: Terms | None = None

    def recognises(self, row: Mapping[str, object]) -> bool:
        return "video" in row and "question" in row

    def fields(self, row: Mapping[str, object], option_seed: int) -> dict[str, object]:
        found = {name: _text(value) for name, value in row.items() if value is not None}
        if isinstance(options := found.get("options"), list):
            found["options"] = [_text(option) for option in options]
        if "metadata" in found:
            found["metadata"] = _metadata(found["metadata"])
        if isinstance(found.get("answer"), str):
            found["answer"] = _answer(str(found["answer"]), found.get("options"), found.get("task"))
        return found


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
        return answer_letter(answer, [option for option in options if isinstance(option, str)])
    if task == "temporal_grounding" and not _INTERVAL.search(answer):
        raise ValueError(f"answer: {answer!r} is not START to END in seconds")
    return answer
