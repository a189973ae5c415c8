"""What a format of annotations is, and what several of them need."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from components.ingest.row_file import plain
from components.shared.files import sha256_bytes
from components.shared.prompts import option_letter

_LETTER = re.compile(r"\(?([A-Za-z])[).:]?")


@dataclass(frozen=True)
class Terms:
    """Under which terms a public set stands, in short. They bind whoever uses the set; nothing of it comes with us."""

    title: str
    annotations: str  # the annotations' licence, as its publishers name it
    media: str  # whose terms the videos and images are under
    address: str

    def line(self) -> str:
        """One line to show where the set is read."""
        return f"{self.title}: annotations {self.annotations}; {self.media}. Read the terms first: {self.address}"


class AnnotationFormat(Protocol):
    """Turns a row as a data set writes it into the fields of a Sample; `id` and `split` may be absent."""

    terms: Terms | None  # None: the user's own data

    def recognises(self, row: Mapping[str, object]) -> bool:
        """Whether a row looks like this format."""

    def fields(self, row: Mapping[str, object], option_seed: int) -> dict[str, object]:
        """The fields of a Sample. Raises ValueError("field: what is wrong"); types are checked by Sample itself.

        `option_seed` orders options that the set itself gives in no order.
        """


def required(row: Mapping[str, Any], name: str) -> Any:
    """A row's field. Raises ValueError that names it if it is missing."""
    if row.get(name) is None:
        raise ValueError(f"{name}: Field required")
    return row[name]


def required_list(row: Mapping[str, Any], name: str) -> list[Any]:
    """A row's list. Raises ValueError that names it if it is missing or none."""
    value = required(row, name)
    if not isinstance(value, list):
        raise ValueError(f"{name}: {value!r} is not a list")
    return value


def answer_letter(answer: str, options: Sequence[str]) -> str:
    """The letter of the option that `answer` names by letter or by text; the answer itself if it names none.

    Raises ValueError if it may mean several.
    """
    letters, wanted = [option_letter(index) for index in range(len(options))], plain(answer)
    named = {letter for letter, option in zip(letters, options, strict=True) if plain(option) == wanted}
    if (match := _LETTER.fullmatch(answer)) and match[1].upper() in letters:
        named.add(match[1].upper())
    if len(named) > 1:
        raise ValueError(f"answer: {answer!r} may mean any of the options {', '.join(sorted(named))}")
    return named.pop() if named else answer


def order_of(count: int, seed: int, name: str) -> list[int]:
    """A permutation of `count` things that depends on (seed, name) alone: they are sorted by a SHA-256 each.

    No generator: a million rows would spend half a minute on making one each.
    """
    return sorted(range(count), key=lambda index: sha256_bytes(f"{seed}\0{name}\0{index}".encode()))
