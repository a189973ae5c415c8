"""Where input files come from: a folder, or a prefix in an S3 bucket."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlparse

from components.ingest.errors import IngestError
from components.shared.store import StoreError, StoreSettings

_PATIENCE = StoreSettings().patience  # seconds


class Source(Protocol):
    """Files by their name relative to the source's root."""

    def relative(self, name: str) -> str:
        """`name` (relative, or full but below the root) relative to the root. Raises ValueError if it lies outside."""

    def names(self) -> list[str]:
        """The files directly below the root, sorted."""

    def stamp(self, name: str) -> str | None:
        """What changes with the file's content, known without reading it. None: there is no such file."""

    def cache_id(self, name: str) -> str | None:
        """A name for the file's content that is known without reading it, None if only reading tells."""

    def fetch(self, name: str, folder: Path) -> Path:
        """A local path of the file, which is downloaded into `folder` if need be. Raises OSError if that fails."""


def open_source(root: str) -> Source:
    """The source at a folder's path or at `s3://bucket/prefix`. Raises IngestError for any other scheme."""
    parsed = urlparse(root)
    if parsed.scheme == "s3":
        return S3Source(parsed.netloc, parsed.path.strip("/"))
    if parsed.scheme in ("", "file"):
        return FolderSource(Path(parsed.path if parsed.scheme else root))
    raise IngestError(f"{root}: scheme {parsed.scheme!r} is not supported; use a path or s3://")


def split_uri(uri: str) -> tuple[str, str]:
    """A file's path or URI as (root, name)."""
    root, _, name = uri.rpartition("/")
    return (root or ("/" if uri.startswith("/") else "."), name)


class FolderSource:
    """Files below a local folder. Nothing is copied."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))

    def relative(self, name: str) -> str:
        # symbolic links are not followed: data sets are often put together from them
        path = Path(os.path.normpath(self.root / name))
        if not path.is_relative_to(self.root) or path == self.root:
            raise ValueError(f"{name!r} lies outside the videos' folder")
        return path.relative_to(self.root).as_posix()

    def names(self) -> list[str]:
        try:
            return sorted(path.name for path in self.root.iterdir() if path.is_file())
        except FileNotFoundError:
            raise IngestError(f"{self.root}: there is no such folder") from None
        except OSError as error:
            raise IngestError(f"{self.root}: cannot be read as a folder ({error.strerror})") from None

    def stamp(self, name: str) -> str | None:
        path = self.root / name
        if not path.exists() or path.is_dir():
            return None
        stat = path.stat()
        return f"{stat.st_size}-{stat.st_mtime_ns}"

    def cache_id(self, name: str) -> str | None:
        return None

    def fetch(self, name: str, folder: Path) -> Path:
        return self.root / name


class S3Source:
    """Objects below a prefix; credentials, region and endpoint come from the usual AWS variables and files."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket, self.prefix = bucket, prefix

    @functools.cached_property
    def _client(self) -> Any:
        from components.shared.store.s3_client import open_client

        return open_client()

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    @functools.cached_property
    def _etags(self) -> dict[str, str]:
        """Name -> size and ETag of every object below the prefix: one request a thousand objects."""
        from components.shared.store.s3_client import patiently

        below = f"{self.prefix}/" if self.prefix else ""
        uri = f"s3://{self.bucket}/{below}"
        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=below)
            items = patiently(lambda: [item for page in pages for item in page.get("Contents", ())], uri, _PATIENCE)
        except StoreError as error:
            raise IngestError(f"{uri} cannot be listed: {error}") from error
        return {item["Key"][len(below) :]: f"{item['Size']}-{item['ETag']}" for item in items}

    def relative(self, name: str) -> str:
        inside = name.removeprefix(f"s3://{self.bucket}/{self._key('')}")
        if not inside or "://" in inside or inside.startswith(("/", "../")):
            raise ValueError(f"{name!r} lies outside the videos' prefix")
        return inside

    def names(self) -> list[str]:
        return sorted(name for name in self._etags if "/" not in name)

    def stamp(self, name: str) -> str | None:
        return self._etags.get(name)

    def cache_id(self, name: str) -> str | None:
        return f"s3://{self.bucket}/{self._key(name)} {self._etags[name]}"

    def fetch(self, name: str, folder: Path) -> Path:
        from components.shared.store.s3_client import patiently

        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name.replace("/", "_")
        key = self._key(name)
        try:
            patiently(
                lambda: self._client.download_file(self.bucket, key, str(path)), f"s3://{self.bucket}/{key}", _PATIENCE
            )
        except StoreError as error:
            raise OSError(str(error)) from error
        return path
