"""Decoded frames kept from one ingest to the next: other annotations of the same videos decode nothing again.

Rollout, training and evaluation read the frames from the dataset artifact and need no cache; ingest alone decodes. Entries
lie in the artifact store and, where that is S3, on this machine's disk too. They are named by what they are made of, so
that an entry never grows stale; a kill leaves it whole or absent.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import components
from components.shared.files import sha256_bytes, sha256_file
from components.shared.store import FolderStore, Store

FRAMES, USES = "frames", "frame-uses"  # entries, and lists of those that an ingest used
_CHECK = hashlib.sha256().digest_size
_MADE_BY = ("decode_worker.py", "frame_sampling.py", "frame_size.py", "readers")


@functools.cache
def decoding_code() -> str:
    """Digest of the code that frames depend on: when it changes, all is decoded anew."""
    root = Path(components.__file__).parent / "ingest"
    files = [path for name in _MADE_BY for path in sorted({root / name, *(root / name).glob("*.py")}) if path.is_file()]
    return sha256_bytes(*(f"{path.name}\0{sha256_file(path)}\n".encode() for path in files))


def entry_name(content: str, recipe: Mapping[str, object]) -> str:
    """The entry of a file's content digest and of all that shapes its frames."""
    return sha256_bytes(json.dumps([content, decoding_code(), recipe], sort_keys=True).encode())[:32]


class FrameCache:
    """The entries that one ingest reads and writes."""

    def __init__(self, store: Store) -> None:
        local = getattr(store, "cache", None)  # S3 keeps what it downloads in a folder
        self._layers: list[Store] = [local, store] if isinstance(local, FolderStore) else [store]
        self._used: set[str] = set()

    def read(self, name: str) -> bytes | None:
        """An entry from the nearest layer that has it undamaged; nearer layers get it too. None: no layer has."""
        for depth, layer in enumerate(self._layers):
            data = layer.read_object(f"{FRAMES}/{name}")
            if data is not None and hashlib.sha256(data[_CHECK:]).digest() == data[:_CHECK]:
                for nearer in self._layers[:depth]:
                    nearer.write_object(f"{FRAMES}/{name}", data)
                self._used.add(name)
                return data[_CHECK:]
        return None

    def write(self, name: str, data: bytes) -> None:
        """Keep an entry in every layer."""
        for layer in self._layers:
            layer.write_object(f"{FRAMES}/{name}", hashlib.sha256(data).digest() + data)
        self._used.add(name)

    def drop(self, name: str) -> None:
        """Delete an entry from every layer."""
        for layer in self._layers:
            layer.delete_objects(f"{FRAMES}/{name}")
        self._used.discard(name)

    def trim(self, max_bytes: float) -> None:
        """Note what this ingest used, and delete the least recently used entries of each layer down to `max_bytes`."""
        for layer in self._layers:
            _note_uses(layer, self._used)
            _evict(layer, max_bytes)


def _note_uses(layer: Store, names: Iterable[str]) -> None:
    """A list of the entries used now: reading leaves no trace in a store, and rewriting entries would cost a decoding."""
    listed = json.dumps(sorted(names)).encode()
    layer.write_object(f"{USES}/{sha256_bytes(listed)[:32]}.json", listed)


def _evict(layer: Store, max_bytes: float) -> None:
    entries = {entry.name.partition("/")[2]: entry for entry in layer.entries(FRAMES)}
    total = sum(entry.size for entry in entries.values())
    if total <= max_bytes:
        return
    last_use = {name: entry.modified for name, entry in entries.items()}
    lists: dict[str, list[str]] = {}
    for use in layer.entries(USES):
        lists[use.name] = json.loads(layer.read_object(use.name) or b"[]")
        for name in lists[use.name]:
            if name in last_use:
                last_use[name] = max(last_use[name], use.modified)
    for name in sorted(entries, key=lambda name: (last_use[name], name)):
        layer.delete_objects(f"{FRAMES}/{name}")
        total -= entries.pop(name).size
        if total <= max_bytes:
            break
    for use_name, names in lists.items():
        if not any(name in entries for name in names):
            layer.delete_objects(use_name)
