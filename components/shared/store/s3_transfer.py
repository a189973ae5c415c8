"""Files to and from S3: in parts, several at once, checked on both ways, and resumed where a kill or an outage ended them.

boto3's own transfer manager does parts, threads and retries; what it lacks is to go on after its process died, and to
send checksums that are known already. Hence: on the way up, a file's unfinished multipart upload is found again and the
parts that are there in the right size and checksum are not sent again; on the way down, parts land in `<file>.part`, a
journal beside it names those that are complete, and the file gets its name once its SHA-256 is right.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
from collections.abc import Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from components.shared.files import sha256_file
from components.shared.progress import progress
from components.shared.store.manifest import StoreError
from components.shared.store.s3_client import code_of, patiently
from components.shared.store.settings import StoreSettings

DIGEST = "sha256"  # name of the objects' own metadata with the file's SHA-256, in hex
_MIB = 1 << 20
_MOST_PARTS = 9000  # S3 takes 10,000
_SHOWN_FROM = 64 * _MIB  # bytes: smaller transfers take no longer than some seconds and get no bar

Task = Callable[[], int]  # returns the bytes that it moved


@dataclass(frozen=True)
class Item:
    """One file of a version and the object that holds it."""

    path: Path
    key: str
    size: int
    sha256: str


@dataclass
class Multipart:
    """A multipart upload on its way: the parts that are there, by number."""

    item: Item
    upload_id: str
    parts: dict[int, dict[str, Any]] = field(default_factory=dict)


class Transfer:
    """Moves the files of versions between a folder and a bucket."""

    def __init__(self, client: Any, bucket: str, settings: StoreSettings) -> None:
        self.client, self.bucket, self.settings = client, bucket, settings
        self.encryption: dict[str, str] = {}
        if settings.sse != "none":
            self.encryption["ServerSideEncryption"] = settings.sse
        if settings.sse_kms_key_id:
            self.encryption["SSEKMSKeyId"] = settings.sse_kms_key_id

    def part_size(self, size: int) -> int:
        """Bytes of a part of a file of `size` bytes: a matter of the size alone, so that a second try cuts alike."""
        return max(self.settings.part_size * _MIB, math.ceil(size / _MOST_PARTS / _MIB) * _MIB)

    # --- up

    def upload(self, items: Sequence[Item], begun: Set[str], label: str) -> None:
        """Upload files; those among the keys `begun` that are there with the right SHA-256 are not sent again.

        Raises StoreError if one cannot be written.
        """
        begun = {item.key for item in items if item.key in begun and self._is_there(item)}
        items = [item for item in items if item.key not in begun]
        multiparts: list[Multipart] = []
        tasks: list[Task] = []
        for item in items:
            if item.size <= self.part_size(item.size):
                tasks.append(partial(self._put, item))
                continue
            multipart = self._begin(item)
            multiparts.append(multipart)
            count = math.ceil(item.size / self.part_size(item.size))
            tasks += [partial(self._put_part, multipart, number) for number in range(1, count + 1)]
        self._run(tasks, label, sum(item.size for item in items))
        for multipart in multiparts:
            self._complete(multipart)

    def put_bytes(self, key: str, data: bytes, metadata: dict[str, str] | None = None) -> None:
        """Write one object as a whole, with its SHA-256."""
        self._call(
            key,
            lambda: self.client.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=data,
                ChecksumSHA256=_sha256(data),
                Metadata=metadata or {},
                **self.encryption,
            ),
        )

    def _put(self, item: Item) -> int:
        data = item.path.read_bytes()
        if hashlib.sha256(data).hexdigest() != item.sha256:
            raise StoreError(f"{item.path}: changed while it was being stored; rerun")
        self.put_bytes(item.key, data, {DIGEST: item.sha256})
        return item.size

    def _is_there(self, item: Item) -> bool:
        def look() -> bool:
            try:
                head = self.client.head_object(Bucket=self.bucket, Key=item.key)
            except ClientError as error:
                if code_of(error) in ("404", "NoSuchKey"):
                    return False
                raise
            return head["ContentLength"] == item.size and head["Metadata"].get(DIGEST) == item.sha256

        return self._call(item.key, look)

    def _begin(self, item: Item) -> Multipart:
        """The file's unfinished upload with what is there of it, else a new one."""

        def begin() -> Multipart:
            pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=item.key)
            found = [upload for page in pages for upload in page.get("Uploads", ()) if upload["Key"] == item.key]
            if found:
                upload_id = max(found, key=lambda upload: upload["Initiated"])["UploadId"]
                parts = self.client.get_paginator("list_parts").paginate(
                    Bucket=self.bucket, Key=item.key, UploadId=upload_id
                )
                there = {part["PartNumber"]: part for page in parts for part in page.get("Parts", ())}
                return Multipart(item, upload_id, there)
            made = self.client.create_multipart_upload(
                Bucket=self.bucket,
                Key=item.key,
                ChecksumAlgorithm="SHA256",
                Metadata={DIGEST: item.sha256},
                **self.encryption,
            )
            return Multipart(item, made["UploadId"])

        return self._call(item.key, begin)

    def _put_part(self, multipart: Multipart, number: int) -> int:
        item, size = multipart.item, self.part_size(multipart.item.size)
        with open(item.path, "rb") as file:
            file.seek((number - 1) * size)
            data = file.read(size)
        checksum = _sha256(data)
        if not _same(multipart.parts.get(number), data, checksum):
            sent = self._call(
                item.key,
                lambda: self.client.upload_part(
                    Bucket=self.bucket,
                    Key=item.key,
                    UploadId=multipart.upload_id,
                    PartNumber=number,
                    Body=data,
                    ChecksumSHA256=checksum,
                ),
            )
            multipart.parts[number] = {"PartNumber": number, "ETag": sent["ETag"]}
        multipart.parts[number]["ChecksumSHA256"] = checksum
        return len(data)

    def _complete(self, multipart: Multipart) -> None:
        """Make the object of its parts. Another process that did the same in the meantime did it with equal bytes."""
        item = multipart.item
        names = ("PartNumber", "ETag", "ChecksumSHA256")
        parts = [{name: multipart.parts[number][name] for name in names} for number in sorted(multipart.parts)]

        def complete() -> None:
            try:
                self.client.complete_multipart_upload(
                    Bucket=self.bucket,
                    Key=item.key,
                    UploadId=multipart.upload_id,
                    MultipartUpload={"Parts": parts},
                )
            except ClientError as error:
                if code_of(error) != "NoSuchUpload":
                    raise

        self._call(item.key, complete)
        if not self._is_there(item):
            raise StoreError(f"s3://{self.bucket}/{item.key}: its upload was aborted by someone else; rerun")

    # --- down

    def download(self, items: Sequence[Item], label: str) -> None:
        """Download files, each checked by its SHA-256; parts from an earlier try are not asked for again.

        Raises StoreError for a file that is missing, or that is damaged in the store.
        """
        items = [item for item in items if not item.path.is_file()]  # a file has its name only once it was checked
        for item in items:
            item.path.parent.mkdir(parents=True, exist_ok=True)
        missing = {item.key: self._missing_parts(item) for item in items}
        tasks: list[Task] = [partial(self._get_part, item, number) for item in items for number in missing[item.key]]
        self._run(tasks, label, sum(item.size for item in items))
        damaged = [item for item in items if not _finish(item)]
        if resumed := [item for item in damaged if len(missing[item.key]) < self._part_count(item)]:
            self.download(resumed, label)  # what an earlier try left was damaged: from the start, once
            damaged = [item for item in damaged if item not in resumed]
        if damaged:
            raise StoreError(
                f"s3://{self.bucket}/{damaged[0].key} does not match its SHA-256: it is damaged in the store; delete "
                "the version and rerun"
            )

    def _part_count(self, item: Item) -> int:
        return max(1, math.ceil(item.size / self.part_size(item.size)))

    def _missing_parts(self, item: Item) -> list[int]:
        unfinished, journal = _unfinished(item)
        if not unfinished.is_file():
            journal.unlink(missing_ok=True)
            with open(unfinished, "wb") as file:
                file.truncate(item.size)
        size = self.part_size(item.size)
        done = set(journal.read_text().split("\n")[:-1]) if journal.is_file() else set()
        return [number for number in range(self._part_count(item)) if f"{number}/{size}" not in done]

    def _get_part(self, item: Item, number: int) -> int:
        size = self.part_size(item.size)
        start, end = number * size, min((number + 1) * size, item.size)
        span = {} if (start, end) == (0, item.size) else {"Range": f"bytes={start}-{end - 1}"}

        def get() -> bytes:
            return self.client.get_object(Bucket=self.bucket, Key=item.key, **span)["Body"].read()

        data = self._call(item.key, get)
        unfinished, journal = _unfinished(item)
        with open(unfinished, "r+b") as file:
            file.seek(start)
            file.write(data)
        with open(journal, "ab", buffering=0) as lines:  # one small write: those of several threads do not mix
            lines.write(f"{number}/{size}\n".encode())
        return len(data)

    # --- both

    def _call(self, key: str, action: Callable[[], Any]) -> Any:
        return patiently(action, f"s3://{self.bucket}/{key}", self.settings.patience)

    def _run(self, tasks: list[Task], label: str, total: int) -> None:
        """Do all tasks on threads; the first error ends the others that have not begun."""
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


def _same(part: dict[str, Any] | None, data: bytes, checksum: str) -> bool:
    """Whether an uploaded part holds `data`: by the server's SHA-256, or by its MD5 where it keeps no other."""
    if part is None or part["Size"] != len(data):
        return False
    if there := part.get("ChecksumSHA256"):
        return bool(there == checksum)
    return bool(part["ETag"].strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest())


def _unfinished(item: Item) -> tuple[Path, Path]:
    return item.path.with_name(f"{item.path.name}.part"), item.path.with_name(f"{item.path.name}.journal")


def _finish(item: Item) -> bool:
    """Give a complete download its name if its SHA-256 is right; else drop it."""
    unfinished, journal = _unfinished(item)
    good = sha256_file(unfinished) == item.sha256
    journal.unlink(missing_ok=True)
    if good:
        os.replace(unfinished, item.path)
    else:
        unfinished.unlink()
    return good


def _sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()
