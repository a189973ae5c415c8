"""The rows of an annotation file, one after the other: a file of millions is never in memory as a whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from components.ingest.errors import IngestError

REMEDY = "annotations are a .json list of objects, a .jsonl of one object a line, or a .parquet table"
_BLOCK = 1 << 20  # characters of a .json file that are read at once
_ROWS = 1024  # of a .parquet table
_SPACE = re.compile(r"[ \t\n\r]*")


class NotJson(str):
    """What is wrong with a line that is no JSON."""


def read_rows(path: Path) -> Iterator[tuple[int, object]]:
    """(number, row) for each row, counting lines, items or table rows from 1; a line that is no JSON gives a NotJson.

    Raises IngestError if the file is missing or of no known kind, and where it turns out not to be readable.
    """
    if not path.is_file():
        raise IngestError(f"ingest.annotations: {path} does not exist; {REMEDY}")
    readers = {".jsonl": _read_jsonl, ".json": _read_json, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise IngestError(f"ingest.annotations: {path} ends in {path.suffix!r}; {REMEDY}")
    try:
        yield from reader(path)
    except (OSError, UnicodeDecodeError) as error:
        raise IngestError(f"ingest.annotations: {path} cannot be read as UTF-8 text ({error}); {REMEDY}") from error


def _read_jsonl(path: Path) -> Iterator[tuple[int, object]]:
    with open(path, encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except json.JSONDecodeError as error:
                    yield number, NotJson(f"is not JSON ({error.msg}, character {error.pos + 1} of the line)")


def _read_json(path: Path) -> Iterator[tuple[int, object]]:
    try:
        yield from enumerate(_items(path), start=1)
    except json.JSONDecodeError as error:
        raise IngestError(f"ingest.annotations: {path} is not JSON ({error}); {REMEDY}") from error


def _items(path: Path) -> Iterator[object]:
    """The items of the list that a JSON file is. Raises JSONDecodeError, or IngestError if it is no list."""
    with open(path, encoding="utf-8-sig") as file:
        window = _Window(file)
        if window.character() != "[":
            found = json.loads(window.rest())
            raise IngestError(f"ingest.annotations: {path} holds {type(found).__name__}, not a list; {REMEDY}")
        window.at += 1
        if window.character() != "]":
            yield window.value()
            while window.character() == ",":
                window.at += 1
                yield window.value()
        if window.character() != "]":
            raise json.JSONDecodeError("Expecting ',' or ']'", window.rest()[:100], 0)
        window.at += 1
        if window.character():
            raise json.JSONDecodeError("Extra data", window.rest()[:100], 0)


class _Window:
    """The part of a JSON file that is in memory: `text` from `at` on is still to be read."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._decoder = file, json.JSONDecoder()
        self.text, self.at = "", 0

    def _extend(self, size: int) -> bool:
        more = self._file.read(size)
        self.text, self.at = self.text[self.at :] + more, 0
        return bool(more)

    def character(self) -> str:
        """The next one that is no white space, which is skipped; empty at the end."""
        while True:
            self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]  # matches nothing at least
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._extend(_BLOCK):
                return ""

    def value(self) -> object:
        """The next value, which is one only when what follows it is there too: 12 may be the begin of 123."""
        self.character()
        size = _BLOCK
        while True:
            wrong = None
            try:
                found, end = self._decoder.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                wrong, end = error, len(self.text)
            if wrong is None and end < len(self.text):
                self.at = end
                return found
            if not self._extend(size):
                raise wrong or json.JSONDecodeError("the list does not end", self.text[-100:], 0)
            size *= 2

    def rest(self) -> str:
        """All that is left."""
        return self.text[self.at :] + self._file.read()


def _read_parquet(path: Path) -> Iterator[tuple[int, object]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, pre_buffer=False) as table:
            batches = table.iter_batches(batch_size=_ROWS, use_threads=False)
            rows = (row for batch in batches for row in batch.to_pylist())
            yield from enumerate(rows, start=1)
    except (pa.ArrowException, OSError) as error:
        raise IngestError(f"ingest.annotations: {path} is not a readable Parquet table ({error}); {REMEDY}") from error
