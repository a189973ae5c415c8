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
from components.shared.store import Store, StoreError

LEDGER, UNFINISHED = "ledger", "work"  # where finished and unfinished work lies in the store


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
    """The record of finished and half-finished work in a store. `run` and `round` are told to the lineage."""

    def __init__(self, store: Store, run: str = "", round_index: int = 0) -> None:
        self.store, self.run, self.round = store, run, round_index
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
        """Record the work as finished, with the versions of the engines that this process used, and drop its chunks."""
        known = outputs.results.get("engines")
        engines = {**loaded_engines(), **(known if isinstance(known, dict) else {})}
        outputs = outputs.model_copy(update={"results": {**outputs.results, "engines": engines}})
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

    def _note(self, key: str) -> None:
        """Let the run be seen to need this work, before it is looked for: garbage collection then keeps it."""
        if self.run and key not in self._noted:
            note_work(self.store, self.run, key, self._asked.get(key, Work()).inputs)
            self._noted.add(key)


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
