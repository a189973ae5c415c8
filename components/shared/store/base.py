"""What every artifact store does, whatever it lies on: versions by content, objects by name."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from components.shared.files import sha256_bytes
from components.shared.schemas import ArtifactRef, Kind
from components.shared.store.manifest import (
    MANIFEST,
    Files,
    StoreError,
    check_folder,
    content_digest,
    describe,
    total_size,
    write_manifest,
)

KINDS: tuple[Kind, ...] = get_args(Kind)
DOOMED = "gc"  # below it lie the lists of versions that a garbage collection is about to delete
_WAIT_FOR_COLLECTION = 900.0  # seconds


@dataclass(frozen=True)
class Entry:
    """An object as a listing shows it: bytes, and when it was written by the store's own clock (seconds, Unix time)."""

    name: str
    size: int
    modified: float


class Store(ABC):
    """Versions by content, objects by name.

    Two processes may store the same content at once: both write the same bytes under the same names, so that whoever
    comes last changes nothing. That is why no conditional write is needed (some S3 servers do not enforce them).
    """

    def put(self, folder: Path, kind: Kind, metadata: dict[str, str | int | float | bool] | None = None) -> ArtifactRef:
        """Store every file below `folder` as one version. The folder is consumed (moved) where that saves a copy.

        Storing the same content twice gives the same version. Raises StoreError if the folder holds no file.
        """
        files = describe(folder)
        if not files:
            raise StoreError(f"cannot store {folder}: it holds no file")
        digest = content_digest(files)
        name = f"{kind}/{digest}"
        manifest = write_manifest(kind, files)
        if not self._renew(name, manifest):
            self._write_version(name, folder, files, manifest)
        return ArtifactRef(
            kind=kind, uri=self.uri_of(name), digest=digest, size=total_size(files), metadata=metadata or {}
        )

    def _renew(self, name: str, manifest: bytes) -> bool:
        """Whether the version is there. If so its manifest is written anew, so that it is young and no gc takes it.

        A gc first lists what it will delete, then looks once more at what became young; here it is the other way
        round: first young, then a look at the lists. So one of the two notices the other.
        """
        waited = 0.0
        while self.read_object(f"{name}/{MANIFEST}") is not None:
            self.write_object(f"{name}/{MANIFEST}", manifest)
            if not any(name in json.loads(self.read_object(item) or b"[]") for item in self.list_objects(DOOMED)):
                return True
            if waited >= _WAIT_FOR_COLLECTION:
                raise StoreError(
                    f"{self.uri_of(name)} is on the list of a garbage collection that does not end: if it was killed, "
                    "run `deepvideo artifacts gc --delete` again, which ends it"
                )
            time.sleep(1.0)
            waited += 1.0
        return False

    def get(self, ref: ArtifactRef) -> Path:
        """A local folder with the version's files, to be read only. Raises StoreError if it is missing or damaged."""
        name = f"{ref.kind}/{ref.digest}"
        return self._local_version(name, self.files_of(name))

    def files_of(self, name: str) -> Files:
        """The files of the version `kind/digest`. Raises StoreError if there is no such version, or a damaged one."""
        kind, digest = name.split("/")
        raw = self.read_object(f"{name}/{MANIFEST}")
        if raw is None:
            raise StoreError(f"{kind} {digest[:12]} is not in the store {self.uri_of('')}: was it deleted?")
        files: Files = json.loads(raw)["files"]
        if content_digest(files) != digest:
            raise StoreError(f"{self.uri_of(name)}/{MANIFEST} does not match its digest: delete the version and rerun")
        return files

    def export(self, name: str, target: Path) -> Files:
        """Copy the version `kind/digest` to the folder `target`, every file checked by its SHA-256 after the copy.

        `target` must be missing or empty. Raises StoreError otherwise, or if the version is missing or damaged.
        """
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise StoreError(f"{target}: is not an empty folder; give another one")
        files = self.files_of(name)
        source = self._local_version(name, files)
        partial = target.absolute().with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
        try:
            shutil.copytree(source, partial, ignore=shutil.ignore_patterns(MANIFEST))
            check_folder(partial, files, content=True)
            if target.exists():
                target.rmdir()
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return files

    def versions(self) -> list[str]:
        """`kind/digest` of every complete version, sorted."""
        names = [f"{kind}/{digest}" for kind in KINDS for digest in self._children(kind)]
        manifests = self.read_objects([f"{name}/{MANIFEST}" for name in names])
        return sorted(name for name in names if manifests[f"{name}/{MANIFEST}"] is not None)

    def check(self) -> None:
        """Write, read and delete a small object. Raises StoreError, naming the remedy, if that cannot be done."""
        name, data = f"probes/{uuid.uuid4().hex}", sha256_bytes(b"probe").encode()
        self.write_object(name, data)
        if self.read_object(name) != data:
            raise StoreError(f"{self.uri_of(name)} was written but reads differently: check the storage behind it")
        self.delete_objects(name)

    def list_objects(self, prefix: str) -> list[str]:
        """Names of the objects below `prefix/`, sorted."""
        return [entry.name for entry in self.entries(prefix)]

    def read_objects(self, names: list[str]) -> dict[str, bytes | None]:
        """The bytes of several objects, by name."""
        return {name: self.read_object(name) for name in names}

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
    def entries(self, prefix: str) -> list[Entry]:
        """The objects below `prefix/`, sorted by name."""

    @abstractmethod
    def delete_objects(self, prefix: str) -> None:
        """Delete the object `prefix`, and every object below `prefix/`: manifests first, so no version is left half."""

    @abstractmethod
    def leftovers(self, before: float) -> list[Entry]:
        """What no reader can see and nobody wrote to since `before` (Unix time): broken-off writes, old revisions."""

    @abstractmethod
    def drop_leftovers(self, found: list[Entry]) -> None:
        """Delete what `leftovers` found."""

    @abstractmethod
    def _children(self, prefix: str) -> list[str]:
        """The names directly below `prefix/` that have objects below them."""

    @abstractmethod
    def _write_version(self, name: str, folder: Path, files: Files, manifest: bytes) -> None: ...

    @abstractmethod
    def _local_version(self, name: str, files: Files) -> Path: ...
