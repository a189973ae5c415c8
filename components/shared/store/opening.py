"""From a URI to its store."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlparse

from components.shared.store.base import Store
from components.shared.store.folder import FolderStore
from components.shared.store.manifest import StoreError
from components.shared.store.settings import StoreSettings

CACHE = "DEEPVIDEO_CACHE"  # variable: folder of the versions downloaded from S3


def open_store(uri: str, settings: StoreSettings | None = None) -> Store:
    """The store at `uri`: `s3://bucket/prefix`, `file:///folder` or a folder's path.

    Versions from S3 are kept in the folder that DEEPVIDEO_CACHE names, by default in the user's cache. Nothing is asked of
    the server yet; `Store.check` does. Raises StoreError for any other scheme, and for AWS settings that contradict.
    """
    parsed = urlparse(uri)
    if parsed.scheme == "s3":
        from components.shared.store.s3 import S3Store

        cache = FolderStore(Path(os.environ.get(CACHE) or user_cache() / "store").absolute())
        return S3Store(parsed.netloc, parsed.path.strip("/"), cache, settings or StoreSettings())
    if parsed.scheme in ("", "file"):
        return FolderStore(Path(unquote(parsed.path) if parsed.scheme else uri).absolute())
    raise StoreError(f"store {uri!r}: scheme {parsed.scheme!r} is not supported; use s3://, file:// or a folder")


def user_cache() -> Path:
    """The folder for what can be fetched or made again: `deepvideo` in the user's cache (XDG base directories)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "deepvideo"
