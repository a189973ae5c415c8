"""The artifact store: content-addressed, immutable versions, in a folder (`file://` or a path) or in S3 (`s3://`).

A version is a folder of files under `<kind>/<digest>/`; its `manifest.json` is written last, so a half-written version
can never be read. Beside versions the store keeps small objects: the ledger's records and the chunks of unfinished work.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from abc import ABC, abstractmethod
from pathlib import Path
from urllib.parse import unquote, urlparse

from components.shared.files import sha256_bytes, sha256_file, write_atomic
from components.shared.schemas import ArtifactRef, Kind

MANIFEST = "manifest.json"


class StoreError(RuntimeError):
    """A version or object cannot be read or written; the message names it and the remedy."""


def open_store(uri: str, cache: Path | None = None) -> Store:
    """The store at `uri`: `s3://bucket/prefix`, `file:///folder` or a folder's path. `cache` holds downloads from S3."""
    parsed = urlparse(uri)
    if parsed.scheme == "s3":
        return S3Store(
            parsed.netloc, parsed.path.strip("/"), cache or Path(os.environ.get("DEEPVIDEO_CACHE", ".cache"))
        )
    if parsed.scheme in ("", "file"):
        return FolderStore(Path(unquote(parsed.path) if parsed.scheme else uri).absolute())
    raise StoreError(f"store {uri!r}: scheme {parsed.scheme!r} is not supported; use s3://, file:// or a folder")


def describe(folder: Path) -> dict[str, dict[str, str | int]]:
    """Relative path -> {sha256, size in bytes} of every file below `folder`, sorted by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {
        path.relative_to(folder).as_posix(): {"sha256": sha256_file(path), "size": path.stat().st_size}
        for path in files
    }


def content_digest(files: dict[str, dict[str, str | int]]) -> str:
    """The version's digest: SHA-256 over its sorted paths and their SHA-256s."""
    return sha256_bytes(*(f"{path}\0{entry['sha256']}\n".encode() for path, entry in sorted(files.items())))


class Store(ABC):
    """Versions by content, objects by name."""

    def put(self, folder: Path, kind: Kind, metadata: dict[str, str | int | float | bool] | None = None) -> ArtifactRef:
        """Store every file below `folder` as one version. The folder is consumed (moved) where that saves a copy.

        Storing the same content twice gives the same version. Raises StoreError if the folder holds no file.
        """
        files = describe(folder)
        if not files:
            raise StoreError(f"cannot store {folder}: it holds no file")
        digest = content_digest(files)
        name = f"{kind}/{digest}"
        if self.read_object(f"{name}/{MANIFEST}") is None:
            manifest = {"kind": kind, "digest": digest, "files": files}
            self._write_version(name, folder, json.dumps(manifest, indent=1).encode())
        size = sum(int(entry["size"]) for entry in files.values())
        return ArtifactRef(kind=kind, uri=self.uri_of(name), digest=digest, size=size, metadata=metadata or {})

    def get(self, ref: ArtifactRef) -> Path:
        """A local folder with the version's files, to be read only. Raises StoreError if it is missing or damaged."""
        name = f"{ref.kind}/{ref.digest}"
        raw = self.read_object(f"{name}/{MANIFEST}")
        if raw is None:
            raise StoreError(f"{ref.kind} {ref.digest[:12]} is not in the store {self.uri_of('')}: was it deleted?")
        manifest = json.loads(raw)
        if content_digest(manifest["files"]) != ref.digest:
            raise StoreError(f"{self.uri_of(name)}/{MANIFEST} does not match its digest: delete the version and rerun")
        return self._local_version(name, manifest["files"])

    @abstractmethod
    def uri_of(self, name: str) -> str:
        """The full URI of an object or version."""

    @abstractmethod
    def read_object(self, name: str) -> bytes | None:
        """An object's bytes, None if there is none."""

    @abstractmethod
    def write_object(self, name: str, data: bytes) -> None:
        """Write an object as a whole; a reader sees the old bytes or the new."""

    @abstractmethod
    def list_objects(self, prefix: str) -> list[str]:
        """Names of the objects below `prefix/`, sorted."""

    @abstractmethod
    def delete_objects(self, prefix: str) -> None:
        """Delete every object below `prefix/`."""

    @abstractmethod
    def _write_version(self, name: str, folder: Path, manifest: bytes) -> None: ...

    @abstractmethod
    def _local_version(self, name: str, files: dict[str, dict[str, str | int]]) -> Path: ...


class FolderStore(Store):
    """A store in a folder: versions are moved in by one rename, reads are the files themselves."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def uri_of(self, name: str) -> str:
        return (self.root / name).as_uri()

    def read_object(self, name: str) -> bytes | None:
        path = self.root / name
        return path.read_bytes() if path.is_file() else None

    def write_object(self, name: str, data: bytes) -> None:
        write_atomic(self.root / name, data)

    def list_objects(self, prefix: str) -> list[str]:
        folder = self.root / prefix
        found = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".partial"))
        return sorted(path.relative_to(self.root).as_posix() for path in found)

    def delete_objects(self, prefix: str) -> None:
        shutil.rmtree(self.root / prefix, ignore_errors=True)

    def _write_version(self, name: str, folder: Path, manifest: bytes) -> None:
        target = self.root / name
        staged = self.root / ".staging" / uuid.uuid4().hex
        staged.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, staged)
        write_atomic(staged / MANIFEST, manifest)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(staged, target)
        except OSError:  # another process stored the same content first
            if not (target / MANIFEST).is_file():
                raise
            shutil.rmtree(staged)

    def _local_version(self, name: str, files: dict[str, dict[str, str | int]]) -> Path:
        folder = self.root / name
        for relative, entry in files.items():
            path = folder / relative
            if not path.is_file() or path.stat().st_size != entry["size"]:
                raise StoreError(f"{path} is missing or damaged: delete {folder} and rerun")
        return folder


class S3Store(Store):
    """A store in an S3 bucket, over boto3: credentials, region and endpoint come from the usual AWS variables and files."""

    def __init__(self, bucket: str, prefix: str, cache: Path) -> None:
        import boto3
        from botocore.config import Config

        self.bucket, self.prefix, self.cache = bucket, prefix, cache.absolute()
        retries = Config(retries={"mode": "adaptive", "max_attempts": 8})
        self.client = boto3.client("s3", config=retries)

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def uri_of(self, name: str) -> str:
        return f"s3://{self.bucket}/{self._key(name)}"

    def read_object(self, name: str) -> bytes | None:
        try:
            return self.client.get_object(Bucket=self.bucket, Key=self._key(name))["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None

    def write_object(self, name: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=self._key(name), Body=data, ChecksumAlgorithm="SHA256")

    def list_objects(self, prefix: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self._key(prefix).rstrip("/") + "/"
        )
        drop = len(self.prefix) + 1 if self.prefix else 0
        return sorted(item["Key"][drop:] for page in pages for item in page.get("Contents", ()))

    def delete_objects(self, prefix: str) -> None:
        for name in self.list_objects(prefix):
            self.client.delete_object(Bucket=self.bucket, Key=self._key(name))

    def _write_version(self, name: str, folder: Path, manifest: bytes) -> None:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            key = self._key(f"{name}/{path.relative_to(folder).as_posix()}")
            self.client.upload_file(str(path), self.bucket, key, ExtraArgs={"ChecksumAlgorithm": "SHA256"})
        self.write_object(f"{name}/{MANIFEST}", manifest)
        shutil.rmtree(folder)

    def _local_version(self, name: str, files: dict[str, dict[str, str | int]]) -> Path:
        folder = self.cache / name
        if (folder / MANIFEST).is_file():
            return folder
        staged = self.cache / ".staging" / uuid.uuid4().hex
        for relative, entry in files.items():
            path = staged / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            self.client.download_file(self.bucket, self._key(f"{name}/{relative}"), str(path))
            if sha256_file(path) != entry["sha256"]:
                raise StoreError(f"{self.uri_of(name)}/{relative} does not match its SHA-256: delete it and rerun")
        write_atomic(staged / MANIFEST, json.dumps(files))
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(staged, folder)
        except OSError:  # another process downloaded it first
            shutil.rmtree(staged)
        return folder
