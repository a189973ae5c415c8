"""Files to S3. A killed upload goes on: parts that are there with the right size and checksum are not sent again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from components.shared.store.manifest import StoreError
from components.shared.store.s3_client import code_of
from components.shared.store.s3_parts import Bucket, Item, Task, sha256_base64

DIGEST = "sha256"  # name of the objects' own metadata with the file's SHA-256, in hex


@dataclass
class _Multipart:
    """A multipart upload on its way: the parts that are there, by number from 1."""

    item: Item
    upload_id: str
    parts: dict[int, dict[str, Any]] = field(default_factory=dict)


def upload(bucket: Bucket, items: Sequence[Item], begun: Set[str], label: str) -> None:
    """Upload files; those among the keys `begun` that are there with the right SHA-256 are not sent again.

    Raises StoreError if one cannot be written.
    """
    done = {item.key for item in items if item.key in begun and _is_there(bucket, item)}
    items = [item for item in items if item.key not in done]
    multiparts: list[_Multipart] = []
    tasks: list[Task] = []
    for item in items:
        if bucket.part_count(item.size) == 1:
            tasks.append(partial(_put, bucket, item))
        else:
            multipart = _begin(bucket, item)
            multiparts.append(multipart)
            numbers = range(1, bucket.part_count(item.size) + 1)
            tasks += [partial(_put_part, bucket, multipart, number) for number in numbers]
    bucket.run(tasks, label, sum(item.size for item in items))
    for multipart in multiparts:
        _complete(bucket, multipart)


def _is_there(bucket: Bucket, item: Item) -> bool:
    def look() -> bool:
        try:
            head = bucket.client.head_object(Bucket=bucket.name, Key=item.key)
        except ClientError as error:
            if code_of(error) in ("404", "NoSuchKey"):
                return False
            raise
        return bool(head["ContentLength"] == item.size and head["Metadata"].get(DIGEST) == item.sha256)

    return bucket.call(item.key, look)


def _put(bucket: Bucket, item: Item) -> int:
    data = item.path.read_bytes()
    if hashlib.sha256(data).hexdigest() != item.sha256:
        raise StoreError(f"{item.path}: changed while it was being stored; rerun")
    bucket.put_bytes(item.key, data, {DIGEST: item.sha256})
    return item.size


def _begin(bucket: Bucket, item: Item) -> _Multipart:
    """The file's unfinished upload with what is there of it, else a new one."""
    client, where = bucket.client, {"Bucket": bucket.name, "Key": item.key}

    def find() -> _Multipart | None:
        pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket.name, Prefix=item.key)
        found = [upload for page in pages for upload in page.get("Uploads", ()) if upload["Key"] == item.key]
        if not found:
            return None
        upload_id = max(found, key=lambda upload: upload["Initiated"])["UploadId"]
        pages = client.get_paginator("list_parts").paginate(**where, UploadId=upload_id)
        return _Multipart(item, upload_id, {p["PartNumber"]: p for page in pages for p in page.get("Parts", ())})

    def create() -> _Multipart:
        about = {"ChecksumAlgorithm": "SHA256", "Metadata": {DIGEST: item.sha256}, **bucket.encryption}
        return _Multipart(item, client.create_multipart_upload(**where, **about)["UploadId"])

    return bucket.call(item.key, find) or bucket.call(item.key, create)


def _put_part(bucket: Bucket, multipart: _Multipart, number: int) -> int:
    item, size = multipart.item, bucket.part_size(multipart.item.size)
    with open(item.path, "rb") as file:
        file.seek((number - 1) * size)
        data = file.read(size)
    checksum = sha256_base64(data)
    if not _same(multipart.parts.get(number), data, checksum):
        part = {"UploadId": multipart.upload_id, "PartNumber": number, "ChecksumSHA256": checksum}

        def send() -> dict[str, Any] | None:
            try:
                return bucket.client.upload_part(Bucket=bucket.name, Key=item.key, Body=data, **part)
            except ClientError as error:
                if code_of(error) == "NoSuchUpload":  # another process, which went on with it too, was done first
                    return None
                raise

        sent = bucket.call(item.key, send)
        if sent is None:
            return len(data)
        multipart.parts[number] = {"PartNumber": number, "ETag": sent["ETag"]}
    multipart.parts[number]["ChecksumSHA256"] = checksum
    return len(data)


def _same(part: dict[str, Any] | None, data: bytes, checksum: str) -> bool:
    """Whether an uploaded part holds `data`: by the server's SHA-256, or by its MD5 where it keeps no other."""
    if part is None or part["Size"] != len(data):
        return False
    if there := part.get("ChecksumSHA256"):
        return bool(there == checksum)
    return bool(part["ETag"].strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest())


def _complete(bucket: Bucket, multipart: _Multipart) -> None:
    """Make the object of its parts. Another process that did the same in the meantime did it with equal bytes."""
    item = multipart.item
    names = ("PartNumber", "ETag", "ChecksumSHA256")
    all_sent = len(multipart.parts) == bucket.part_count(item.size)
    parts = [{name: multipart.parts[number][name] for name in names} for number in sorted(multipart.parts) if all_sent]
    whole = {"UploadId": multipart.upload_id, "MultipartUpload": {"Parts": parts}}

    def complete() -> None:
        try:
            bucket.client.complete_multipart_upload(Bucket=bucket.name, Key=item.key, **whole)
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":
                raise

    if all_sent:
        bucket.call(item.key, complete)
    if not _is_there(bucket, item):
        raise StoreError(f"s3://{bucket.name}/{item.key}: its upload was aborted by someone else; rerun")
