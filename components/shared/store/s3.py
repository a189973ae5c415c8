"""A store in an S3 bucket."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from components.shared.store.base import Entry, Store
from components.shared.store.folder import FolderStore
from components.shared.store.manifest import MANIFEST, Files, StoreError, check_folder, write_manifest
from components.shared.store.s3_client import open_client, patiently
from components.shared.store.s3_download import download
from components.shared.store.s3_parts import Bucket, Item
from components.shared.store.s3_upload import upload
from components.shared.store.settings import StoreSettings

log = logging.getLogger(__name__)

_CHECK_PATIENCE = 5  # seconds: what is wrong from the start is told at once
_UPLOAD, _REVISION, _DELETION = "?uploadId=", "?versionId=", "?deletion="  # leftovers are named by key, mark, identity
_MARKS = "(" + "|".join(re.escape(mark) for mark in (_UPLOAD, _REVISION, _DELETION)) + ")"


class S3Store(Store):
    """A store in an S3 bucket. `cache` keeps the versions that came or went through this machine.

    Objects below a prefix of one bucket: a version's files lie there under their own names, for any S3 tool to read.
    The bucket's versioning (see `check`) keeps what is deleted or overwritten for a while: `leftovers` has it all.
    """

    def __init__(self, bucket: str, prefix: str, cache: FolderStore, settings: StoreSettings) -> None:
        self.bucket, self.prefix, self.cache, self.settings = bucket, prefix, cache, settings
        self.client = open_client(connections=settings.concurrency + 2)
        self._bucket = Bucket(self.client, bucket, settings)

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def _name(self, key: str) -> str:
        return key[len(self.prefix) + 1 :] if self.prefix else key

    def _call(self, name: str, operation: str, **arguments: Any) -> Any:
        """One request about the object or prefix `name`. Raises StoreError with the remedy."""
        action = getattr(self.client, operation)
        return patiently(lambda: action(Bucket=self.bucket, **arguments), self.uri_of(name), self.settings.patience)

    def uri_of(self, name: str) -> str:
        return f"s3://{self.bucket}/{self._key(name)}"

    def check(self) -> None:
        """See that the bucket can be listed, written, read and deleted from, and that it keeps revisions.

        Versioning is switched on where it is off; where that is not allowed a warning says so. Raises StoreError within
        seconds, naming the remedy: wrong or no credentials, no such bucket, an unreachable endpoint.
        """
        quick = S3Store(
            self.bucket, self.prefix, self.cache, self.settings.model_copy(update={"patience": _CHECK_PATIENCE})
        )
        quick._call("", "list_objects_v2", Prefix=self._key(""), MaxKeys=1)
        try:
            super(S3Store, quick).check()
        except StoreError as error:
            if self.settings.sse == "none":
                raise
            raise StoreError(
                f"{error} (the bucket can be listed: does the server have the encryption and the key of store.sse = "
                f"{self.settings.sse} and store.sse_kms_key_id?)"
            ) from error
        try:
            if quick._call("", "get_bucket_versioning").get("Status") != "Enabled":
                quick._call("", "put_bucket_versioning", VersioningConfiguration={"Status": "Enabled"})
        except StoreError as error:
            log.warning("the bucket's versioning is off or unknown, what is deleted cannot be brought back: %s", error)

    def read_object(self, name: str) -> bytes | None:
        def read() -> bytes | None:
            try:
                return self.client.get_object(Bucket=self.bucket, Key=self._key(name))["Body"].read()
            except self.client.exceptions.NoSuchKey:
                return None

        return patiently(read, self.uri_of(name), self.settings.patience)

    def read_objects(self, names: list[str]) -> dict[str, bytes | None]:
        with ThreadPoolExecutor(self.settings.concurrency) as pool:
            return dict(zip(names, pool.map(self.read_object, names), strict=True))

    def write_object(self, name: str, data: bytes) -> None:
        self._bucket.put_bytes(self._key(name), data)

    def entries(self, prefix: str) -> list[Entry]:
        found = [
            Entry(self._name(item["Key"]), item["Size"], item["LastModified"].timestamp())
            for page in self._pages("list_objects_v2", prefix)
            for item in page.get("Contents", ())
        ]
        return sorted(found, key=lambda entry: entry.name)

    def _children(self, prefix: str) -> list[str]:
        below = self._below(prefix)
        pages = self._pages("list_objects_v2", prefix, Delimiter="/")
        return sorted(
            item["Prefix"][len(below) :].rstrip("/") for page in pages for item in page.get("CommonPrefixes", ())
        )

    def delete_objects(self, prefix: str) -> None:
        names = self.list_objects(prefix)
        if self.read_object(prefix) is not None:
            names.append(prefix)
        manifests = [name for name in names if name.endswith(f"/{MANIFEST}")]
        self._delete([{"Key": self._key(name)} for name in manifests])
        self._delete([{"Key": self._key(name)} for name in names if name not in set(manifests)])

    def leftovers(self, before: float) -> list[Entry]:
        """Unfinished multipart uploads, and revisions (the bucket's own marks of a deletion too) replaced before `before`."""
        return [entry for entry in (*self._unfinished(), *self._replaced()) if entry.modified < before]

    def drop_leftovers(self, found: list[Entry]) -> None:
        objects: dict[str, list[dict[str, str]]] = {_REVISION: [], _DELETION: []}
        for entry in found:
            name, mark, identity = re.split(_MARKS, entry.name, maxsplit=1)
            if mark == _UPLOAD:
                self._abort(name, identity)
            else:
                objects[mark].append({"Key": self._key(name), "VersionId": identity})
        self._delete(objects[_REVISION])
        self._delete(objects[_DELETION])  # last: without it what lies under it would be seen again

    def _abort(self, name: str, upload_id: str) -> None:
        try:
            self._call(name, "abort_multipart_upload", Key=self._key(name), UploadId=upload_id)
        except StoreError as error:
            if "NoSuchUpload" not in str(error):  # its process finished it in the meantime
                raise

    def _unfinished(self) -> Iterator[Entry]:
        for page in self._pages("list_multipart_uploads", ""):
            for begun in page.get("Uploads", ()):
                name, where = self._name(begun["Key"]), {"Key": begun["Key"], "UploadId": begun["UploadId"]}
                parts = [part for page in self._pages("list_parts", name, **where) for part in page.get("Parts", ())]
                newest = max([begun["Initiated"], *(part["LastModified"] for part in parts)])
                size = sum(part["Size"] for part in parts)
                yield Entry(f"{name}{_UPLOAD}{begun['UploadId']}", size, newest.timestamp())

    def _replaced(self) -> Iterator[Entry]:
        """Revisions that are not the newest of their key, dated by what replaced them; and keys' deletions."""
        revisions: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for page in self._pages("list_object_versions", ""):
            for item in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                revisions[item["Key"]].append(item)
        for key, items in revisions.items():
            items.sort(key=lambda item: (item["IsLatest"], item["LastModified"]), reverse=True)
            for newer, item in zip(items, items[1:], strict=False):
                name = f"{self._name(key)}{_REVISION}{item['VersionId']}"
                yield Entry(name, item.get("Size", 0), newer["LastModified"].timestamp())
            if "Size" not in items[0]:
                name = f"{self._name(key)}{_DELETION}{items[0]['VersionId']}"
                yield Entry(name, 0, items[0]["LastModified"].timestamp())

    def _below(self, prefix: str) -> str:
        return self._key(prefix).rstrip("/") + "/" if self._key(prefix) else ""

    def _pages(self, operation: str, prefix: str, **arguments: Any) -> list[dict[str, Any]]:
        paginator = self.client.get_paginator(operation)
        given = arguments if operation == "list_parts" else {"Prefix": self._below(prefix), **arguments}
        return patiently(
            lambda: list(paginator.paginate(Bucket=self.bucket, **given)), self.uri_of(prefix), self.settings.patience
        )

    def _delete(self, objects: list[dict[str, str]]) -> None:
        for start in range(0, len(objects), 1000):
            some = {"Objects": objects[start : start + 1000], "Quiet": True}
            if errors := self._call("", "delete_objects", Delete=some).get("Errors"):
                raise StoreError(
                    f"{self.uri_of(self._name(errors[0]['Key']))} cannot be deleted ({errors[0].get('Code')}): allow "
                    "s3:DeleteObject and s3:DeleteObjectVersion"
                )

    def _items(self, name: str, folder: Path, files: Files) -> list[Item]:
        return [
            Item(folder / relative, self._key(f"{name}/{relative}"), int(entry["size"]), str(entry["sha256"]))
            for relative, entry in files.items()
        ]

    def _write_version(self, name: str, folder: Path, files: Files, manifest: bytes) -> None:
        kind, digest = name.split("/")
        begun = {self._key(entry.name) for entry in self.entries(name)}
        upload(self._bucket, self._items(name, folder, files), begun, f"Uploading {kind} {digest[:12]}")
        there = {entry.name: entry.size for entry in self.entries(name)}
        if lost := [path for path, entry in files.items() if there.get(f"{name}/{path}") != entry["size"]]:
            raise StoreError(f"{self.uri_of(name)}/{lost[0]} was deleted while the version was written; rerun")
        self.write_object(f"{name}/{MANIFEST}", manifest)
        self.cache._write_version(name, folder, files, manifest)

    def _local_version(self, name: str, files: Files) -> Path:
        """The version in the cache, downloaded if it is not there; one process downloads, others wait for it."""
        kind, digest = name.split("/")
        folder, staged = self.cache.root / name, self.cache.root / "downloads" / f"{kind}-{digest}"
        staged.parent.mkdir(parents=True, exist_ok=True)
        with open(staged.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (folder / MANIFEST).is_file():
                try:
                    check_folder(folder, files, content=False)
                    return folder
                except StoreError:
                    shutil.rmtree(folder)  # someone touched the cache: download again
            download(self._bucket, self._items(name, staged, files), f"Downloading {kind} {digest[:12]}")
            (staged / MANIFEST).write_bytes(write_manifest(kind, files))
            folder.parent.mkdir(parents=True, exist_ok=True)
            os.rename(staged, folder)
        return folder
