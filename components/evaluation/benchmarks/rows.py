"""Reading the rows of annotation files, and the small conversions that several benchmarks share."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from components.evaluation.benchmarks.contracts import BenchmarkError, Row
from components.shared.prompts import option_letter

_ENDINGS = (".mp4", ".MP4", ".mkv", ".webm", ".avi", ".mov")


def read_text(path: Path) -> str:
    """A file's text. Raises BenchmarkError, naming the file, if it is not there."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BenchmarkError(f"{path}: there is no such file; `--check` lists what is missing of the copy") from None


def read_json(path: Path) -> Any:
    """A JSON file's content. Raises BenchmarkError, naming the file, if it is not there or no JSON."""
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise BenchmarkError(f"{path}: not valid JSON ({error}); fetch it again") from None


def read_table(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON list, JSONL, CSV or Parquet file."""
    if path.suffix == ".jsonl":
        for number, line in enumerate(read_text(path).split("\n"), start=1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise BenchmarkError(f"{path}:{number}: not valid JSON ({error}); fetch the file again") from None
    elif path.suffix == ".csv":
        with open(path, encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)
    elif path.suffix == ".parquet":
        import pyarrow.parquet as pq

        yield from pq.read_table(path, use_threads=False, pre_buffer=False).to_pylist()
    else:
        yield from read_json(path)


def first_file(root: Path, *patterns: str) -> Path:
    """The first file that a pattern matches. Raises BenchmarkError, naming the patterns, if none does."""
    for pattern in patterns:
        if found := sorted(root.glob(pattern)):
            return found[0]
    raise BenchmarkError(f"{root}: none of {', '.join(patterns)} is there; `--check` lists what is missing of the copy")


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
