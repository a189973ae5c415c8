"""Files to and from S3 in parts, several at once: what upload and download have in common.

boto3's own transfer manager does parts, threads and retries; what it lacks is to go on after its process died, and to
send checksums that are known already. Hence these modules. A file is always cut in the same places, by its size alone,
so that a second process finds the first one's parts.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from components.shared.progress import progress
from components.shared.store.s3_client import patiently
from components.shared.store.settings import StoreSettings

Result = TypeVar("Result")
Task = Callable[[], int]  # returns the bytes that it moved

_MIB = 1 << 20
_MOST_PARTS = 9000  # S3 takes 10,000
_SHOWN_FROM = 64 * _MIB  # bytes: smaller transfers take no longer than some seconds and get no bar


@dataclass(frozen=True)
class Item:
    """One file of a version and the object that holds it."""

    path: Path
    key: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Bucket:
    """A bucket, the client that speaks to it, and how."""

    client: Any
    name: str
    settings: StoreSettings

    @property
    def encryption(self) -> dict[str, str]:
        """The arguments of a write that ask for server-side encryption; none: the bucket's own default."""
        asked = {"ServerSideEncryption": self.settings.sse, "SSEKMSKeyId": self.settings.sse_kms_key_id}
        return {name: value for name, value in asked.items() if value not in ("", "none")}

    def part_size(self, size: int) -> int:
        """Bytes of a part of a file of `size` bytes."""
        return max(self.settings.part_size * _MIB, math.ceil(size / _MOST_PARTS / _MIB) * _MIB)

    def part_count(self, size: int) -> int:
        """Parts of a file of `size` bytes, at least one."""
        return max(1, math.ceil(size / self.part_size(size)))

    def call(self, key: str, action: Callable[[], Result]) -> Result:
        """One request about the object `key`, with patience. Raises StoreError with the remedy."""
        return patiently(action, f"s3://{self.name}/{key}", self.settings.patience)

    def put_bytes(self, key: str, data: bytes, metadata: dict[str, str] | None = None) -> None:
        """Write one object as a whole, with its SHA-256."""
        arguments = {"ChecksumSHA256": sha256_base64(data), "Metadata": metadata or {}, **self.encryption}
        self.call(key, lambda: self.client.put_object(Bucket=self.name, Key=key, Body=data, **arguments))

    def run(self, tasks: list[Task], label: str, total: int) -> None:
        """Do all tasks on threads, with a bar from some size on; the first error ends what has not begun."""
        shown = progress(label, total=math.ceil(total / _MIB), unit="MiB") if total >= _SHOWN_FROM else nullcontext()
        with shown as advance, ThreadPoolExecutor(self.settings.concurrency) as pool:
            futures = [pool.submit(task) for task in tasks]
            moved = told = 0
            try:
                for future in as_completed(futures):
                    moved += future.result()
                    if advance and moved // _MIB > told:
                        advance(moved // _MIB - told)
                        told = moved // _MIB
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def sha256_base64(data: bytes) -> str:
    """SHA-256 in the form of S3's headers."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode()
