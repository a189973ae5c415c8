"""Reading the rows of annotation files, and the small conversions that several benchmarks share."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from components.evaluation.benchmarks.contracts import BenchmarkError, Row
from components.shared.prompts import option_letter

_ENDINGS = (".mp4", ".MP4", ".mkv", ".webm", ".avi", ".mov")


def read_text(path: Path) -> str:
    """A file's text; a byte order mark is no part of it. Raises BenchmarkError, naming the file, if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BenchmarkError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise BenchmarkError(f"{path}: this is a folder; name a file") from None
    except UnicodeDecodeError as error:
        raise BenchmarkError(
            f"{path}: no text in UTF-8 ({error.reason} at byte {error.start}); unpack or convert it"
        ) from None
    except OSError as error:
        raise BenchmarkError(f"{path}: cannot be read ({error.strerror})") from None


def read_json(path: Path, kind: type[dict[str, Any]] | type[list[Any]]) -> Any:
    """A JSON file's content. Raises BenchmarkError, naming the file, if it is not there, no JSON or not of this kind."""
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise BenchmarkError(f"{path}: not valid JSON ({error}); fetch it again") from None
    if not isinstance(content, kind):
        expected = "a list of rows" if kind is list else "an object"
        raise BenchmarkError(f"{path}: expected {expected}, found {type(content).__name__}; fetch it again")
    return content


def read_table(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON list, JSONL, CSV or Parquet file. Raises BenchmarkError, naming the file, for what is none."""
    for number, row in enumerate(_table(path), start=1):
        if not isinstance(row, dict):
            raise BenchmarkError(f"{path}: row {number} is no object, but {type(row).__name__}; fetch the file again")
        yield row


def _table(path: Path) -> Iterator[Any]:
    if path.suffix == ".jsonl":
        for number, line in enumerate(read_text(path).split("\n"), start=1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise BenchmarkError(f"{path}:{number}: not valid JSON ({error}); fetch the file again") from None
    elif path.suffix == ".csv":
        yield from csv.DictReader(io.StringIO(read_text(path)))
    elif path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path, use_threads=False, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise BenchmarkError(f"{path}: not a whole Parquet file ({error}); fetch it again") from None
        yield from table.to_pylist()
    else:
        yield from read_json(path, list)


def find_medium(root: Path, name: str) -> Path | None:
    """A video or image of the copy, a video also under another ending (archives mix them); None if it is not there."""
    path = root / name
    if path.exists():
        return path
    others = (path.with_suffix(ending) for ending in _ENDINGS) if path.suffix in _ENDINGS else ()
    return next((other for other in others if other.is_file()), None)


def field(row: Row, name: str, benchmark: str) -> Any:
    """A row's field. Raises BenchmarkError that names it if the row lacks it."""
    if row.get(name) is None:
        raise BenchmarkError(f"{benchmark}: a row lacks the field {name!r}; it has {', '.join(sorted(row))}")
    return row[name]


def lettered(options: Sequence[str], style: str = "{letter}. {option}") -> list[str]:
    """The options as lines, each with its letter."""
    return [style.format(letter=option_letter(index), option=option) for index, option in enumerate(options)]
