"""What makes a rerun continue: finished work is found by its inputs, and a killed step resumes from its last chunk.

A key is a digest over the step, its inputs' content digests, its settings, the seed and the code's version. Under it the
store keeps the step's outputs (once it is finished) and, until then, its chunks. The records are the artifacts' lineage
too: what was made of what, in which step of which run.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ValidationError

import components
from components.shared.engines import loaded_engines
from components.shared.files import sha256_bytes, sha256_file
from components.shared.runs import note_work
from components.shared.schemas import ArtifactRef, Record
from components.shared.sharding import WHOLE, Shard
from components.shared.store import Store, StoreError

LEDGER, UNFINISHED = "ledger", "work"  # where finished and unfinished work lies in the store
_SHARE = "share-"  # begins the names of what shards leave beside their chunks


@functools.cache
def code_version() -> str:
    """Digest of this project's step code: every .py file of the `components` package, by path and content."""
    root = Path(components.__file__).parent
    files = sorted(root.rglob("*.py"))
    return sha256_bytes(*(f"{path.relative_to(root).as_posix()}\0{sha256_file(path)}\n".encode() for path in files))


class Outputs(BaseModel):
    """What a finished step left: artifacts by name, plain results, and the seconds it took (engine start-up apart)."""

    artifacts: dict[str, ArtifactRef] = {}
    results: dict[str, object] = {}
    seconds: float = 0.0
    startup_seconds: float = 0.0


class Work(Record):
    """A piece of work: what its key is made of, and who did it. `inputs` are content digests by name."""

    step: str = ""
    inputs: dict[str, str] = {}
    seed: int = 0
    code: str = ""
    run: str = ""
    round: int = 0
    finished: str = ""  # ISO 8601, UTC


class LedgerRecord(Record):
    """What the ledger keeps under a key. Of `collected` work an output was deleted as garbage: it would be done again."""

    work: Work
    outputs: Outputs
    collected: bool = False


class Ledger:
    """The record of finished and half-finished work in a store. `run` and `round` are told to the lineage.

    A ledger of a `shard` makes chunks, and leaves it to the step itself to finish the work.
    """

    def __init__(self, store: Store, run: str = "", round_index: int = 0, shard: Shard = WHOLE) -> None:
        self.store, self.run, self.round, self.shard = store, run, round_index, shard
        self._asked: dict[str, Work] = {}  # of the keys that were made here
        self._noted: set[str] = set()

    def key(self, step: str, inputs: Mapping[str, str], settings: Mapping[str, object], seed: int) -> str:
        """The key of a piece of work. `inputs` are content digests by name, `settings` anything JSON can hold."""
        parts = {"step": step, "inputs": dict(inputs), "settings": dict(settings), "seed": seed, "code": code_version()}
        key = f"{step}-{sha256_bytes(json.dumps(parts, sort_keys=True).encode())[:32]}"
        self._asked[key] = Work(step=step, inputs=dict(inputs), seed=seed, code=code_version())
        return key

    def finished(self, key: str) -> Outputs | None:
        """The outputs recorded under `key`, None if the work is not finished."""
        self._note(key)
        raw = self.store.read_object(f"{LEDGER}/{key}.json")
        record = LedgerRecord.model_validate_json(raw) if raw else None
        return record.outputs if record and not record.collected else None

    def finish(self, key: str, outputs: Outputs) -> Outputs:
        """Record the work as finished, with the versions of the engines that this process used, and drop its chunks.

        Where shards made the chunks, their engines count too, and the seconds of the slowest shard. Raises RuntimeError
        in a shard, which has only a part of the work.
        """
        if self.shard.is_part:
            raise RuntimeError(f"{key}: {self.shard} cannot finish the work of all")
        outputs = _with_engines(outputs)
        if shares := self._shares(key):
            engines = [share.results["engines"] for share in shares] + [outputs.results["engines"]]
            merged = {name: version for found in engines for name, version in found.items()}  # type: ignore[attr-defined]
            outputs = outputs.model_copy(
                update={
                    "results": {**outputs.results, "engines": merged},
                    "seconds": outputs.seconds + max(share.seconds for share in shares),
                    "startup_seconds": outputs.startup_seconds + max(share.startup_seconds for share in shares),
                }
            )
        who = {"run": self.run, "round": self.round, "finished": datetime.now(UTC).isoformat(timespec="milliseconds")}
        record = LedgerRecord(work=self._asked.get(key, Work()).model_copy(update=who), outputs=outputs)
        self._note(key)
        write_record(self.store, key, record)
        self.store.delete_objects(f"{UNFINISHED}/{key}")
        return outputs

    def chunk(self, key: str, name: str, make: Callable[[], bytes]) -> bytes:
        """The bytes of one chunk of unfinished work: as stored by an earlier try, else made now and stored."""
        self._note(key)
        found = self.store.read_object(f"{UNFINISHED}/{key}/{name}")
        if found is None:
            found = make()
            self.store.write_object(f"{UNFINISHED}/{key}/{name}", found)
        return found

    def chunk_names(self, key: str) -> set[str]:
        """The names of the chunks of unfinished work that are in the store."""
        return {name.rpartition("/")[2] for name in self.store.list_objects(f"{UNFINISHED}/{key}")}

    def finish_share(self, key: str, seconds: float, startup_seconds: float) -> Outputs:
        """Leave beside a shard's chunks what making them took: it goes into the outputs of the finished work.

        A share that is made once more adds its own to what is there; what a killed try took is not known.
        """
        name = f"{UNFINISHED}/{key}/{_SHARE}{self.shard.number}-of-{self.shard.count}.json"
        found = self.store.read_object(name)
        before = Outputs.model_validate_json(found) if found else Outputs()
        outputs = _with_engines(
            Outputs(
                results=before.results,
                seconds=before.seconds + seconds,
                startup_seconds=before.startup_seconds + startup_seconds,
            )
        )
        self.store.write_object(name, outputs.model_dump_json().encode())
        return outputs

    def _shares(self, key: str) -> list[Outputs]:
        names = [f"{UNFINISHED}/{key}/{name}" for name in self.chunk_names(key) if name.startswith(_SHARE)]
        return [Outputs.model_validate_json(raw) for raw in self.store.read_objects(names).values() if raw]

    def _note(self, key: str) -> None:
        """Let the run be seen to need this work, before it is looked for: garbage collection then keeps it."""
        if self.run and key not in self._noted:
            note_work(self.store, self.run, key, self._asked.get(key, Work()).inputs)
            self._noted.add(key)


def _with_engines(outputs: Outputs) -> Outputs:
    known = outputs.results.get("engines")
    engines = {**loaded_engines(), **(known if isinstance(known, dict) else {})}
    return outputs.model_copy(update={"results": {**outputs.results, "engines": engines}})


def read_ledger(store: Store) -> dict[str, LedgerRecord]:
    """Every record in the store, by key. Raises StoreError, naming it, for one that cannot be read."""
    records = {}
    for name, raw in store.read_objects(store.list_objects(LEDGER)).items():
        if raw is None:  # deleted since it was listed
            continue
        try:
            record = LedgerRecord.model_validate_json(raw)
        except ValidationError:
            raise StoreError(
                f"{store.uri_of(name)}: not a record of this version of the project; an earlier version wrote it: "
                "delete the object (its work would be done again), or use that version"
            ) from None
        records[name.removeprefix(f"{LEDGER}/").removesuffix(".json")] = record
    return records


def write_record(store: Store, key: str, record: LedgerRecord) -> None:
    """Write the record of the work `key`."""
    store.write_object(f"{LEDGER}/{key}.json", record.model_dump_json(indent=1).encode())


def delete_record(store: Store, key: str) -> None:
    """Delete the record of the work `key`, and the logs that lie beside it."""
    store.delete_objects(f"{LEDGER}/{key}.json")
    store.delete_objects(f"logs/{key}")
