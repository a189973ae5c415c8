"""Garbage collection: delete versions that no registry alias, running run or recent run needs, and what broke off.

A version is kept if it is, or if by lineage it went into, directly or not, one of these:
- a policy that an alias in the model registry points to;
- what a kept run asked for: outputs and inputs of its work, done or not, and checkpoints. Kept are the newest runs, and
  every run that has not ended and gave a sign of life not long ago;
- a version that is young.
Runs go on meanwhile. So what is going to be deleted is listed in the store first and its ledger records are taken away,
and then everything is looked at once more: a run that asked for such work before, or stored such content again, is seen
then; one that comes later finds no record, and `Store.put` sees the list.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from components.shared.ledger import UNFINISHED, LedgerRecord, delete_record, read_ledger, write_record
from components.shared.lineage.graph import Lineage, outputs
from components.shared.runs import Run, forget_run, inputs_of_work, read_runs
from components.shared.schemas import ArtifactRef
from components.shared.store import MANIFEST, Entry, Store, StoreError
from components.shared.store.base import DOOMED, KINDS

_OTHERS_TURN = 900.0  # seconds without a word from another collection after which it is taken to be dead
_WORD_EVERY = 60.0  # seconds between the words of this one


@dataclass(frozen=True)
class Rules:
    """What to keep. `aliased` are content digests. `older_than`, seconds: what is younger is kept, whatever it is."""

    aliased: frozenset[str] = frozenset()
    keep_runs: int = 5
    older_than: float = 7 * 86_400.0


@dataclass
class Collection:
    """What can go: versions (with the half-written ones) and unfinished work by size in bytes, runs, leftovers."""

    versions: dict[str, int] = field(default_factory=dict)
    work: dict[str, int] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    leftovers: list[Entry] = field(default_factory=list)
    dead: dict[str, LedgerRecord] = field(default_factory=dict)  # records that nothing kept needs
    robbed: dict[str, LedgerRecord] = field(default_factory=dict)  # records that stay but lose an output
    kept: int = 0  # versions

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        return sum([*self.versions.values(), *self.work.values(), *(entry.size for entry in self.leftovers)])


@dataclass
class _Group:
    size: int = 0
    modified: float = 0.0
    complete: bool = False


def plan_collection(
    store: Store, rules: Rules, now: float, taken: Mapping[str, LedgerRecord] | None = None
) -> Collection:
    """What can go by these rules at `now` (Unix time by the store's clock). Nothing is changed.

    `taken` are records that count although they were taken from the ledger.
    """
    cutoff = now - rules.older_than
    runs = read_runs(store)
    kept_runs = [run for index, run in enumerate(runs) if index < rules.keep_runs or _at_work(run, cutoff)]
    leftovers = store.leftovers(float("inf"))
    groups = _versions(store, leftovers)
    unfinished = _grouped(store.entries(UNFINISHED), depth=2)
    lineage = Lineage(frozenset(groups), {**read_ledger(store), **(taken or {})})

    keys = {key for run in kept_runs for key in run.work}
    keys |= {name.partition("/")[2] for name, group in unfinished.items() if group.modified >= cutoff}
    roots = {version for version, group in groups.items() if group.modified >= cutoff}
    roots |= {version for digest in rules.aliased for version in lineage.by_digest.get(digest, ())}
    for key in keys & set(lineage.records):
        roots |= outputs(lineage.records[key]) | lineage.inputs(lineage.records[key])
    for run in kept_runs:
        for digest in inputs_of_work(store, run, keys - set(lineage.records)):
            roots |= lineage.by_digest.get(digest, set())
    for key in keys:
        roots |= _checkpoints(store, key) if f"{UNFINISHED}/{key}" in unfinished else set()
    kept = lineage.ancestry(roots)

    alive = keys | {key for version in kept for key in lineage.makers(version)}
    doomed = {version: group.size for version, group in groups.items() if version not in kept}
    return Collection(
        versions=doomed,
        work={name: group.size for name, group in unfinished.items() if name.partition("/")[2] not in keys},
        runs=[run.record.name for run in runs if run not in kept_runs and run.seen < cutoff],
        leftovers=[entry for entry in leftovers if entry.modified < cutoff],
        dead={key: record for key, record in lineage.records.items() if key not in alive},
        robbed={
            key: record for key, record in lineage.records.items() if key in alive and outputs(record) & set(doomed)
        },
        kept=sum(groups[version].complete for version in kept),
    )


def collect(store: Store, rules: Rules, advance: Callable[[str], None] = lambda _: None) -> Collection:
    """Delete what can go, and return it. `advance` is told the name of each version when it is gone.

    Raises StoreError if another collection is at work. Killed at any point it leaves nothing that reads wrong.
    """
    listed = f"{DOOMED}/{uuid.uuid4().hex}.json"
    store.write_object(listed, b"[]")
    try:
        now = _end_dead_collections(store, listed)
        first = plan_collection(store, rules, now)
        store.write_object(listed, json.dumps(sorted(first.versions)).encode())
        for key in first.dead:
            delete_record(store, key)
        for key, record in first.robbed.items():
            write_record(store, key, record.model_copy(update={"collected": True}))

        taken = {**first.dead, **first.robbed}
        second = plan_collection(store, rules, now, taken)
        second.versions = {name: size for name, size in second.versions.items() if name in first.versions}
        for key in taken:
            if key not in second.dead and not outputs(taken[key]) & set(second.versions):
                write_record(store, key, taken[key])
        _delete(store, second, listed, json.dumps(sorted(second.versions)).encode(), advance)
        return second
    finally:
        store.delete_objects(listed)


def _delete(store: Store, going: Collection, listed: str, names: bytes, advance: Callable[[str], None]) -> None:
    told = time.monotonic()
    for version in [*going.versions, *going.work]:
        store.delete_objects(version)
        advance(version)
        if time.monotonic() - told > _WORD_EVERY:
            store.write_object(listed, names)
            told = time.monotonic()
    for run in going.runs:
        forget_run(store, run)
    store.drop_leftovers(going.leftovers)


def _end_dead_collections(store: Store, own: str) -> float:
    """The time by the store's clock. Lists of killed collections are deleted; another one at work is an error."""
    entries = {entry.name: entry for entry in store.entries(DOOMED)}
    now = entries[own].modified
    for name, entry in entries.items():
        if name == own:
            continue
        if entry.modified > now - _OTHERS_TURN:
            raise StoreError(
                f"{store.uri_of(name)}: another garbage collection is at work, or was killed less than "
                f"{_OTHERS_TURN / 60:.0f} minutes ago; try again later"
            )
        store.delete_objects(name)
    return now


def _at_work(run: Run, cutoff: float) -> bool:
    return not run.record.ended and run.seen >= cutoff


def _versions(store: Store, leftovers: list[Entry]) -> dict[str, _Group]:
    """Every version, complete or not. A part of an upload that arrives is a sign of life as well."""
    groups: dict[str, _Group] = {}
    for kind in KINDS:
        entries = store.entries(kind)
        groups |= _grouped(entries, depth=2)
        for entry in entries:
            if entry.name.endswith(f"/{MANIFEST}") and entry.name.count("/") == 2:
                groups[entry.name.removesuffix(f"/{MANIFEST}")].complete = True
    for name, group in _grouped(leftovers, depth=2).items():
        if name in groups:
            groups[name].modified = max(groups[name].modified, group.modified)
    return groups


def _grouped(entries: list[Entry], depth: int) -> dict[str, _Group]:
    """Sizes and newest times of the objects that share the first `depth` parts of their names."""
    groups: dict[str, _Group] = {}
    for entry in entries:
        group = groups.setdefault("/".join(entry.name.split("/")[:depth]), _Group())
        group.size += entry.size
        group.modified = max(group.modified, entry.modified)
    return groups


def _checkpoints(store: Store, key: str) -> set[str]:
    """The versions that unfinished work refers to: each JSON object beside its chunks that is a reference."""
    names = [name for name in store.list_objects(f"{UNFINISHED}/{key}") if name.endswith(".json")]
    found = set()
    for raw in store.read_objects(names).values():
        try:
            ref = ArtifactRef.model_validate_json(raw or b"")
            found.add(f"{ref.kind}/{ref.digest}")
        except ValidationError:  # a chunk of another form
            continue
    return found
