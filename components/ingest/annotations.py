"""Annotation files to samples: every field of every row is checked, and a bad row is named and left out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from components.ingest.errors import IngestError
from components.ingest.formats import choose_format
from components.shared.files import sha256_bytes
from components.shared.prompts import BANNED_TOKENS
from components.shared.rewards.accuracy import is_right
from components.shared.rewards.format import format_reward
from components.shared.schemas import PROMOTION_SPLIT, TRAIN_SPLIT, Quarantined, Sample

HELD_OUT = "L1"
BAD_ROW = "bad_row"
_NOT_CONTENT = ("response", "split", "source", "licence", "metadata")
_REMEDY = "annotations are a .json list of objects, a .jsonl of one object a line, or a .parquet table"


@dataclass(frozen=True)
class Row:
    """A checked sample and where it stands, as in "annotations.jsonl:17"."""

    origin: str
    sample: Sample


def split_of(video: str, held_out_fraction: float, promotion_fraction: float) -> str:
    """The split of a video whose rows name none: by the hash of its name, so that all its rows agree, in every run."""
    place = int.from_bytes(hashlib.sha256(video.encode()).digest()[:8], "big") / 2**64
    if place < held_out_fraction:
        return HELD_OUT
    return PROMOTION_SPLIT if place < held_out_fraction + promotion_fraction else TRAIN_SPLIT


def read_annotations(
    path: Path, format_name: str, relative: Callable[[str], str], split_for: Callable[[str], str]
) -> tuple[list[Row], list[Quarantined]]:
    """The good rows in the file's order, and the bad ones.

    `relative` gives a video's name below the videos' root (ValueError if it lies outside), `split_for` the split of a
    video whose row names none. Raises IngestError if the file is missing, cannot be read, or holds no row of a known
    format.
    """
    raw = _read(path)
    if not raw:
        raise IngestError(f"{path}: holds no row; {_REMEDY}")
    annotation_format = choose_format(format_name, (row for _, row in raw if isinstance(row, dict)), str(path))
    good: list[Row] = []
    bad: list[Quarantined] = []
    for origin, row in raw:
        try:
            if not isinstance(row, dict):
                wrong = row if isinstance(row, _NotJson) else "is not an object of named fields"
                raise ValueError(f"row: {wrong}")
            fields = annotation_format.fields(row)
            good.append(Row(origin, _sample(fields, relative, split_for)))
        except ValidationError as error:
            bad.append(Quarantined(item=origin, reason=BAD_ROW, detail=_fields_of(error)))
        except ValueError as error:
            bad.append(Quarantined(item=origin, reason=BAD_ROW, detail=str(error)))
    return good, bad


def _sample(fields: dict[str, object], relative: Callable[[str], str], split_for: Callable[[str], str]) -> Sample:
    for name in ("video", "image"):
        if isinstance(value := fields.get(name), str) and value:
            try:
                fields[name] = relative(value)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
    if isinstance(fields.get("video"), str):
        fields.setdefault("split", split_for(str(fields["video"])))
    if "id" not in fields:
        content = {name: value for name, value in fields.items() if name not in _NOT_CONTENT}
        fields["id"] = sha256_bytes(json.dumps(content, sort_keys=True, default=str).encode())[:16]
    sample = Sample.model_validate(fields)
    _check_response(sample)
    return sample


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


def _fields_of(error: ValidationError) -> str:
    """Each wrong field and what is wrong with it."""
    found = []
    for item in error.errors(include_url=False):
        place = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        found.append(f"{place}: {message}" if place else message)
    return "; ".join(found)


class _NotJson(str):
    """What is wrong with a line that is no JSON."""


def _read(path: Path) -> list[tuple[str, object]]:
    """(origin, row) for each row; `origin` counts lines, items or table rows from 1."""
    if not path.is_file():
        raise IngestError(f"ingest.annotations: {path} does not exist; {_REMEDY}")
    readers = {".jsonl": _read_jsonl, ".json": _read_json, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise IngestError(f"ingest.annotations: {path} ends in {path.suffix!r}; {_REMEDY}")
    return [(f"{path.name}:{number}", row) for number, row in reader(path)]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise IngestError(f"ingest.annotations: {path} cannot be read as UTF-8 text ({error}); {_REMEDY}") from error


def _read_jsonl(path: Path) -> list[tuple[int, object]]:
    rows: list[tuple[int, object]] = []
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if line.strip():
            try:
                rows.append((number, json.loads(line)))
            except json.JSONDecodeError as error:
                rows.append((number, _NotJson(f"is not JSON ({error})")))
    return rows


def _read_json(path: Path) -> list[tuple[int, object]]:
    try:
        rows = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise IngestError(f"ingest.annotations: {path} is not JSON ({error}); {_REMEDY}") from error
    if not isinstance(rows, list):
        raise IngestError(f"ingest.annotations: {path} holds {type(rows).__name__}, not a list; {_REMEDY}")
    return list(enumerate(rows, start=1))


def _read_parquet(path: Path) -> list[tuple[int, object]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path, use_threads=False, pre_buffer=False).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise IngestError(f"ingest.annotations: {path} is not a readable Parquet table ({error}); {_REMEDY}") from error
    return list(enumerate(rows, start=1))
