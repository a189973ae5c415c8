"""Checked rows on disk: of a million rows memory holds some fifty bytes each and their ids, not a million samples."""

from __future__ import annotations

import hashlib
import os
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.shared.schemas import Sample

NONE = -1  # in a column of numbers: the row has no such thing
_KEY_BYTES = 16


@dataclass(frozen=True)
class Row:
    """A checked sample and where it stands, as in "annotations.jsonl:17"."""

    origin: str
    sample: Sample


class Column:
    """One name a row out of few distinct ones: each is kept once, a row has its number."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._number_of: dict[str, int] = {}
        self._numbers = array("i")

    def add(self, name: str) -> None:
        """The next row's name; an empty one is NONE."""
        number = NONE
        if name:
            number = self._number_of.setdefault(name, len(self.names))
            if number == len(self.names):
                self.names.append(name)
        self._numbers.append(number)

    def numbers(self) -> np.ndarray:
        """Each row's number, int32: an index into `names`, or NONE."""
        return np.array(self._numbers, dtype=np.int32)

    def number(self, name: str) -> int:
        """The number of a name; NONE if no row has it."""
        return self._number_of.get(name, NONE)

    def used(self, rows: np.ndarray) -> list[str]:
        """The distinct names of some rows, sorted."""
        return sorted(self.names[number] for number in np.unique(self.numbers()[rows]) if number != NONE)

    def marked(self, those: Iterable[str]) -> np.ndarray:
        """(rows,) bool: whether a row's name is among `those`."""
        among = np.zeros(len(self.names) + 1, dtype=bool)  # the last is NONE's
        for name in those:
            if (number := self.number(name)) != NONE:
                among[number] = True
        return among[self.numbers()]


class RowFile:
    """Rows in the order in which they were added, in a file without a name below `folder` (TMPDIR by default).

    Rows are named by their index from 0. `content` is a digest of what is asked: question, options, task and split.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # open as long as the rows are
        self._ends = array("Q", [0])
        self._content = bytearray()
        self._last_begins = array("d")
        self.ids: list[str] = []
        self.videos, self.images, self.splits, self.tasks = Column(), Column(), Column(), Column()

    def add(self, row: Row) -> None:
        """Append a row."""
        sample = row.sample
        line = row.origin.encode() + b"\0" + sample.model_dump_json().encode() + b"\n"
        self._file.write(line)
        self._ends.append(self._ends[-1] + len(line))
        self._content += _content_key(sample)
        self._last_begins.append(max((start for start, _ in sample.spans), default=-1.0))
        self.ids.append(sample.id)
        self.videos.add(sample.video)
        self.images.add(sample.image)
        self.splits.add(sample.split)
        self.tasks.add(sample.task)

    def __len__(self) -> int:
        return len(self.ids)

    def last_begins(self) -> np.ndarray:
        """When the last of each row's spans begins, seconds; -1 without spans."""
        return np.array(self._last_begins)

    def content(self, index: int) -> bytes:
        """Equal for rows that ask the same, whatever video they ask it of."""
        return bytes(self._content[index * _KEY_BYTES : (index + 1) * _KEY_BYTES])

    def row(self, index: int) -> Row:
        """One row."""
        origin, _, line = self._read(index).partition(b"\0")
        return Row(origin.decode(), Sample.model_validate_json(line))

    def rows(self, indices: Iterable[int]) -> Iterator[Row]:
        """Some rows, read one by one."""
        return (self.row(index) for index in indices)

    def line(self, index: int) -> bytes:
        """A row's sample as a line of JSON, as `write_records` writes it."""
        return self._read(index).partition(b"\0")[2]

    def _read(self, index: int) -> bytes:
        self._file.flush()
        begin = self._ends[index]
        return os.pread(self._file.fileno(), self._ends[index + 1] - begin, begin)


def plain(text: str) -> str:
    """Text without case, and without a difference between white space of any kind and length."""
    return " ".join(text.split()).casefold()


def _content_key(sample: Sample) -> bytes:
    options = sorted(map(plain, sample.options))
    parts = (plain(sample.question), sample.task, sample.split, *options)
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=_KEY_BYTES).digest()
