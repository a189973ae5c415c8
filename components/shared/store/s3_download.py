"""Files from S3. A killed download goes on: parts land in `<file>.part`, and a journal beside it names the complete ones.

The file gets its own name when its SHA-256 is right, so that what has its name is good.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from components.shared.files import sha256_file
from components.shared.store.manifest import StoreError
from components.shared.store.s3_parts import Bucket, Item, Task


def download(bucket: Bucket, items: Sequence[Item], label: str) -> None:
    """Download files, each checked by its SHA-256; parts from an earlier try are not asked for again.

    Raises StoreError for a file that is missing, or that is damaged in the store.
    """
    items = [item for item in items if not item.path.is_file()]
    missing = {item: _missing_parts(bucket, item) for item in items}
    tasks: list[Task] = [
        partial(_get_part, bucket, item, number) for item, numbers in missing.items() for number in numbers
    ]
    bucket.run(tasks, label, sum(item.size for item in items))
    for item in items:
        if _finish(item):
            continue
        if len(missing[item]) == bucket.part_count(item.size):
            raise StoreError(
                f"s3://{bucket.name}/{item.key} does not match its SHA-256: it is damaged in the store; delete the "
                "version and rerun"
            )
        download(bucket, [item], label)  # what an earlier try left was damaged: from the start, once


def _files(item: Item) -> tuple[Path, Path]:
    return item.path.with_name(f"{item.path.name}.part"), item.path.with_name(f"{item.path.name}.journal")


def _missing_parts(bucket: Bucket, item: Item) -> list[int]:
    """The numbers, from 0, of the parts that are not there yet. A line of the journal is NUMBER/SIZE."""
    unfinished, journal = _files(item)
    if not unfinished.is_file() or unfinished.stat().st_size != item.size:
        journal.unlink(missing_ok=True)
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        with open(unfinished, "wb") as file:
            file.truncate(item.size)
    size = bucket.part_size(item.size)
    done = set(journal.read_text().split("\n")[:-1]) if journal.is_file() else set()
    return [number for number in range(bucket.part_count(item.size)) if f"{number}/{size}" not in done]


def _get_part(bucket: Bucket, item: Item, number: int) -> int:
    size = bucket.part_size(item.size)
    start, end = number * size, min((number + 1) * size, item.size)
    span = {} if (start, end) == (0, item.size) else {"Range": f"bytes={start}-{end - 1}"}

    def get() -> bytes:
        return bytes(bucket.client.get_object(Bucket=bucket.name, Key=item.key, **span)["Body"].read())

    data = bucket.call(item.key, get)
    unfinished, journal = _files(item)
    with open(unfinished, "r+b") as file:
        file.seek(start)
        file.write(data)
    with open(journal, "ab", buffering=0) as lines:  # one small write: those of several threads do not mix
        lines.write(f"{number}/{size}\n".encode())
    return len(data)


def _finish(item: Item) -> bool:
    """Give a complete download its name if its SHA-256 is right; else drop it."""
    unfinished, journal = _files(item)
    good = sha256_file(unfinished) == item.sha256
    journal.unlink(missing_ok=True)
    if good:
        os.replace(unfinished, item.path)
    else:
        unfinished.unlink()
    return good
