"""What a version consists of: its files by path, with size and SHA-256, and the digest over them."""

from __future__ import annotations

import json
from pathlib import Path

from components.shared.files import sha256_bytes, sha256_file

MANIFEST = "manifest.json"

Files = dict[str, dict[str, str | int]]  # relative path -> {sha256 in hex, size in bytes}


class StoreError(RuntimeError):
    """A version or object cannot be read or written; the message names it and the remedy."""


def describe(folder: Path) -> Files:
    """Relative path -> {sha256, size in bytes} of every file below `folder`, sorted by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {
        path.relative_to(folder).as_posix(): {"sha256": sha256_file(path), "size": path.stat().st_size}
        for path in files
    }


def content_digest(files: Files) -> str:
    """The version's digest: SHA-256 over its sorted paths and their SHA-256s."""
    return sha256_bytes(*(f"{path}\0{entry['sha256']}\n".encode() for path, entry in sorted(files.items())))


def total_size(files: Files) -> int:
    """Bytes of all files together."""
    return sum(int(entry["size"]) for entry in files.values())


def write_manifest(kind: str, files: Files) -> bytes:
    """A version's manifest: equal content gives equal bytes."""
    return json.dumps({"kind": kind, "digest": content_digest(files), "files": files}, indent=1).encode()


def check_folder(folder: Path, files: Files, *, content: bool) -> None:
    """Raise StoreError, naming the file, unless `folder` holds all files in their sizes, with `content` by SHA-256."""
    for relative, entry in files.items():
        path = folder / relative
        if not path.is_file() or path.stat().st_size != entry["size"]:
            raise StoreError(f"{path} is missing or damaged: delete {folder} and rerun")
        if content and sha256_file(path) != entry["sha256"]:
            raise StoreError(f"{path} does not match its SHA-256: delete {folder} and rerun")
