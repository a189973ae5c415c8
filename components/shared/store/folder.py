"""A store in a folder: versions are moved in by one rename, reads are the files themselves."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

from components.shared.files import write_atomic
from components.shared.store.base import Entry, Store
from components.shared.store.manifest import MANIFEST, Files, check_folder

_STAGING = ".staging"


class FolderStore(Store):
    """A store in a folder on one machine, or on a file system that several share."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def uri_of(self, name: str) -> str:
        return (self.root / name).as_uri()

    def read_object(self, name: str) -> bytes | None:
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def write_object(self, name: str, data: bytes) -> None:
        write_atomic(self.root / name, data)

    def entries(self, prefix: str) -> list[Entry]:
        files = (
            Entry(path.relative_to(self.root).as_posix(), found.st_size, found.st_mtime)
            for path, found in _below(self.root / prefix)
            if stat.S_ISREG(found.st_mode) and path.suffix != ".partial"
        )
        return sorted(files, key=lambda entry: entry.name)

    def delete_objects(self, prefix: str) -> None:
        path = self.root / prefix
        if path.is_dir():  # out of sight by one rename: a kill leaves no half version
            doomed = self.root / _STAGING / uuid.uuid4().hex
            doomed.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another process deletes it, too
                os.rename(path, doomed)
            shutil.rmtree(doomed, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def leftovers(self, before: float) -> list[Entry]:
        staging = self.root / _STAGING
        items: dict[Path, list[os.stat_result]] = {}
        for path, found in _below(self.root):
            if staging in path.parents:
                items.setdefault(staging / path.relative_to(staging).parts[0], []).append(found)
            elif path.name.startswith(".") and path.suffix == ".partial":
                items[path] = [found]
        # by the inodes' own times: copied files keep the modification times of their originals
        entries = [
            Entry(item.relative_to(self.root).as_posix(), sum(s.st_size for s in stats), max(s.st_ctime for s in stats))
            for item, stats in items.items()
        ]
        return [entry for entry in entries if entry.modified < before]

    def drop_leftovers(self, found: list[Entry]) -> None:
        for entry in found:
            path = self.root / entry.name
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def _children(self, prefix: str) -> list[str]:
        folder = self.root / prefix
        return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []

    def _write_version(self, name: str, folder: Path, files: Files, manifest: bytes) -> None:
        target = self.root / name
        staged = self.root / _STAGING / uuid.uuid4().hex
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

    def _local_version(self, name: str, files: Files) -> Path:
        check_folder(self.root / name, files, content=False)
        return self.root / name


def _below(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """What lies below `folder`, folders too; what another process removes meanwhile is left out.

    Raises:
        OSError: something cannot be read, by another cause than its absence.
    """

    def unless_absent(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise error

    for root, folders, files in os.walk(folder, onerror=unless_absent):
        for path in (Path(root, name) for name in (*folders, *files)):
            with contextlib.suppress(FileNotFoundError):
                yield path, path.stat()
