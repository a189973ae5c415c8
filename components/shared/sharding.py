"""A step's prompts shared by several pods: chunk k of a step is made by shard k mod n, and the step itself merges them.

Shards and the step have the same key in the ledger: n is not a part of it, no shard needs to know what another did, and
what they leave is what one pod would have made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from components.shared.progress import progress
from components.shared.schemas import Record

if TYPE_CHECKING:
    from components.shared.ledger import Ledger

MERGES = "DEEPVIDEO_MERGES_SHARDS"  # set in a pod that only merges, without a GPU: the number of shards before it


class ShardMissing(RuntimeError):
    """A step that only merges lacks chunks; the message names the shards that were to make them, and the remedy."""


class Shard(Record):
    """Pod `number` (from 1) of the `count` that share a step's chunks. 1 of 1 is the whole step."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """The shard that `str` wrote: "shard 2 of 4"."""
        _, number, _, count = text.split()
        return cls(number=int(number), count=int(count))

    @classmethod
    def all_of(cls, count: int) -> list[Self]:
        """The shards of a step that `count` pods share."""
        return [cls(number=number, count=count) for number in range(1, count + 1)]

    @property
    def is_part(self) -> bool:
        """Whether it makes only a share of the chunks, and leaves the rest of the step to the one that merges."""
        return self.count > 1

    def makes(self, index: int) -> bool:
        """Whether chunk `index` (from 0) is its to make."""
        return index % self.count == self.number - 1

    def __str__(self) -> str:
        return f"shard {self.number} of {self.count}"


WHOLE = Shard()


@dataclass(frozen=True)
class Chunk:
    """What is made and stored together: its name in the ledger, how many prompts it has, and how it is made."""

    name: str
    prompts: int
    make: Callable[[], bytes]


def made_chunks(ledger: Ledger, key: str, chunks: Sequence[Chunk], *, label: str, unit: str) -> Iterator[bytes]:
    """The bytes of each chunk of the work `key`, in order, found in the ledger or made now; in a shard those of its share.

    `label` is what progress shows. Raises ShardMissing, before anything is read, in a pod that only merges if a chunk is
    not there.
    """
    mine = [chunk for index, chunk in enumerate(chunks) if ledger.shard.makes(index)]
    if shards := int(os.environ.get(MERGES, 0)):
        _check_all_there(ledger, key, chunks, shards)
    shown = f"{label}, {ledger.shard}" if ledger.shard.is_part else label
    with progress(shown, total=sum(chunk.prompts for chunk in mine), unit=unit) as advance:
        for chunk in mine:
            yield ledger.chunk(key, chunk.name, chunk.make)
            advance(chunk.prompts)


def _check_all_there(ledger: Ledger, key: str, chunks: Sequence[Chunk], shards: int) -> None:
    there = ledger.chunk_names(key)
    missing = [index for index, chunk in enumerate(chunks) if chunk.name not in there]
    if not missing:
        return
    at_fault = [str(shard) for shard in Shard.all_of(shards) if any(map(shard.makes, missing))]
    raise ShardMissing(
        f"{', '.join(at_fault)}: {len(missing)} of the {len(chunks)} chunks of {key} are not in the store"
        f" ({', '.join(chunks[index].name for index in missing[:8])}{', ...' if len(missing) > 8 else ''}), and this pod,"
        " which merges them, has no GPU to make them. Start the run again under the same name: what is there is not made"
        " again. If it stays so, the shards' image is of another build than this pod's"
    )
