"""Annotation files to samples: every field of every row is checked, and a bad row is named and left out."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from components.ingest.annotation_files import REMEDY, NotJson, read_rows
from components.ingest.errors import IngestError
from components.ingest.formats import choose_format
from components.ingest.formats.contracts import order_of
from components.ingest.frame_sampling import clip_of
from components.ingest.row_file import Row
from components.shared.files import sha256_bytes
from components.shared.prompt_templates import template_of
from components.shared.prompts import BANNED_TOKENS, option_letter
from components.shared.rewards.accuracy import is_right
from components.shared.rewards.format import format_reward
from components.shared.schemas import (
    DEFAULT_TEMPLATE,
    PROMOTION_SPLIT,
    TRAIN_SPLIT,
    PromptTemplate,
    Quarantined,
    Sample,
)

HELD_OUT = "L1"
BAD_ROW = "bad_row"
_IN_JSON = {"tuple_type": 'must be a list, such as ["red", "blue"]'}  # pydantic's words for Python, in JSON's
_NOT_CONTENT = ("response", "split", "source", "licence", "metadata", "prompt_template")


def split_of(video: str, held_out_fraction: float, promotion_fraction: float) -> str:
    """The split of a video whose rows name none: by the hash of its name, so that all its rows agree, in every run."""
    place = int.from_bytes(hashlib.sha256(video.encode()).digest()[:8], "big") / 2**64
    if place < held_out_fraction:
        return HELD_OUT
    return PROMOTION_SPLIT if place < held_out_fraction + promotion_fraction else TRAIN_SPLIT


@dataclass(frozen=True)
class OptionOrder:
    """How options are ordered that need not stay as they are: `shuffle` those of every training row, by `seed`."""

    shuffle: bool = False
    seed: int = 0


class Annotations:
    """The rows of an annotation file, checked one by one.

    `relative` gives a video's name below the videos' root (ValueError if it lies outside), `split_for` the split of a
    video whose row names none, `template` how a row is asked that does not say so itself. Raises IngestError if the file
    is missing, cannot be read, or holds no row of a known format.
    """

    def __init__(
        self,
        path: Path,
        format_name: str,
        relative: Callable[[str], str],
        split_for: Callable[[str], str],
        order: OptionOrder = OptionOrder(),
        template: PromptTemplate = DEFAULT_TEMPLATE,
    ) -> None:
        self._path, self._split_for, self._order, self._template = path, split_for, order, template
        self._relative = functools.lru_cache(maxsize=1 << 12)(relative)
        first = next(read_rows(path), None)
        if first is None:
            raise IngestError(f"{path}: holds no row; {REMEDY}")
        if not any(isinstance(row, dict) for _, row in read_rows(path)):
            raise IngestError(f"{path}:{first[0]}: {_no_object(first[1])}, nor is any other row one; {REMEDY}")
        self._format = choose_format(
            format_name, (row for _, row in read_rows(path) if isinstance(row, dict)), str(path)
        )
        self.terms = self._format.terms

    def __iter__(self) -> Iterator[Row | Quarantined]:
        """Each row in the file's order, or why it is left out. Raises IngestError where the file cannot be read."""
        for number, row in read_rows(self._path):
            origin = f"{self._path.name}:{number}"
            try:
                if not isinstance(row, dict):
                    raise ValueError(f"row: {_no_object(row)}")
                yield Row(origin, self._sample(self._format.fields(row, self._order.seed)))
            except ValidationError as error:
                yield Quarantined(item=origin, reason=BAD_ROW, detail=_fields_of(error))
            except ValueError as error:
                yield Quarantined(item=origin, reason=BAD_ROW, detail=str(error))

    def _sample(self, fields: dict[str, object]) -> Sample:
        for name in ("video", "image"):
            if isinstance(value := fields.get(name), str) and value:
                try:
                    fields[name] = self._relative(value)
                    clip_of(value)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None
        if isinstance(video := fields.get("video"), str):
            fields.setdefault("split", self._split_for(video))
        fields.setdefault("prompt_template", self._template)
        if "id" not in fields:
            content = {name: value for name, value in fields.items() if name not in _NOT_CONTENT}
            fields["id"] = sha256_bytes(json.dumps(content, sort_keys=True, default=str).encode())[:16]
        sample = Sample.model_validate(fields)
        template_of(sample)
        _check_response(sample)
        return _shuffled(sample, self._order.seed) if self._order.shuffle else sample


def _shuffled(sample: Sample, seed: int) -> Sample:
    """A training row with its options in an order of its own; a response to learn from names letters, and keeps them."""
    if sample.split != TRAIN_SPLIT or not sample.options or sample.response or len(sample.answer) != 1:
        return sample
    places = order_of(len(sample.options), seed, sample.id)
    letter = option_letter(places.index(ord(sample.answer) - ord("A")))
    return sample.model_copy(update={"options": tuple(sample.options[index] for index in places), "answer": letter})


def _check_response(sample: Sample) -> None:
    """Raise ValueError unless a reference response is what rounds would reward: well formed, and right."""
    if not sample.response:
        return
    if found := [token for token in BANNED_TOKENS if token in sample.response]:
        raise ValueError(f"response: holds {found[0]}, which is no text; take it out")
    if not format_reward(sample, sample.response):
        glue = "<glue>...</glue>" if sample.task == "grounded_qa" else ""
        raise ValueError(f"response: must be <think>...</think><answer>...</answer>{glue} and nothing else")
    if not is_right(sample, sample.response):
        raise ValueError(f"response: its answer is not the row's, {sample.answer!r}")


def _no_object(row: object) -> str:
    return row if isinstance(row, NotJson) else "is not an object of named fields"


def _fields_of(error: ValidationError) -> str:
    """Each wrong field and what is wrong with it."""
    found = []
    for item in error.errors(include_url=False):
        place = ".".join(str(part) for part in item["loc"])
        message = _IN_JSON.get(item["type"]) or item["msg"].removeprefix("Value error, ")
        found.append(f"{place}: {message}" if place else message)
    return "; ".join(found)
