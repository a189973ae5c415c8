"""The graph of versions: the ledger's records say what was made from what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from components.shared.ledger import LedgerRecord, read_ledger
from components.shared.store import Store, StoreError

_SHORTEST = 4  # characters of an abbreviated digest


@dataclass(frozen=True)
class Lineage:
    """Versions (`kind/digest`) and the work (ledger records by key) that made and used them."""

    versions: frozenset[str]
    records: Mapping[str, LedgerRecord]

    @cached_property
    def by_digest(self) -> dict[str, set[str]]:
        """Digest -> its versions: one, unless the same content was stored as two kinds."""
        found: dict[str, set[str]] = defaultdict(set)
        for version in self.versions:
            found[version.partition("/")[2]].add(version)
        return found

    @cached_property
    def _makers(self) -> dict[str, list[str]]:
        made: dict[str, list[str]] = defaultdict(list)
        for key, record in sorted(self.records.items(), key=lambda item: item[1].work.finished):
            handed_on = set(record.work.inputs.values())
            for version in outputs(record):
                if version.partition("/")[2] not in handed_on:
                    made[version].append(key)
        return made

    def makers(self, version: str) -> list[str]:
        """Keys of the work that made the version, the first one first; a step that handed it on unchanged did not."""
        return self._makers.get(version, [])

    def users(self, version: str) -> list[str]:
        """Keys of the work that the version went into."""
        digest = version.partition("/")[2]
        return sorted(key for key, record in self.records.items() if digest in record.work.inputs.values())

    def inputs(self, record: LedgerRecord) -> set[str]:
        """The versions that went into a piece of work. Inputs that are no versions (files, hub models) are not here."""
        return {version for digest in record.work.inputs.values() for version in self.by_digest.get(digest, ())}

    def ancestry(self, roots: Iterable[str]) -> set[str]:
        """The versions `roots` and all that they were made from, directly or not."""
        reached: set[str] = set()
        waiting = [version for version in roots if version in self.versions]
        while waiting:
            version = waiting.pop()
            if version not in reached:
                reached.add(version)
                waiting += [parent for key in self.makers(version) for parent in self.inputs(self.records[key])]
        return reached


def outputs(record: LedgerRecord) -> set[str]:
    """`kind/digest` of the artifacts that a piece of work left."""
    return {f"{ref.kind}/{ref.digest}" for ref in record.outputs.artifacts.values()}


def read_lineage(store: Store) -> Lineage:
    """The lineage of every complete version in the store."""
    return Lineage(frozenset(store.versions()), read_ledger(store))


def find_version(versions: Iterable[str], text: str) -> str:
    """The one version that `text` means: `kind/digest`, a digest, or the beginning of one.

    Raises StoreError if there is none, or more than one.
    """
    kind, _, digest = text.rpartition("/")
    found = sorted(
        version
        for version in versions
        if version.partition("/")[2].startswith(digest) and kind in ("", version.partition("/")[0])
    )
    if len(digest) < _SHORTEST:
        raise StoreError(f"{text!r}: give at least {_SHORTEST} characters of a digest")
    if not found:
        raise StoreError(f"{text!r}: there is no such version; `deepvideo artifacts ls` lists them")
    if len(found) > 1:
        raise StoreError(f"{text!r} could be {', '.join(version[:24] for version in found)}: give more of the digest")
    return found[0]
