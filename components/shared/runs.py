"""What a store knows of the runs that use it: when each began and ended, its signs of life, and the work it asked for.

    runs/<run>/run.json       name, begin and end
    runs/<run>/alive          the step at work, written anew every minute; its age is what counts
    runs/<run>/work/<key>     one for every piece of work (a key of the ledger) that the run began or found done, with
                              the digests of its inputs
    runs/<run>/spool/<time>   what waits to be sent to MLflow (components/shared/tracking)

Garbage collection keeps what runs need by these. The names are escaped, the times are the store's own.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from components.shared.schemas import Record
from components.shared.store import Store, StoreError

log = logging.getLogger(__name__)

_ROOT = "runs"
_BEAT = 60.0  # seconds between signs of life


class RunRecord(Record):
    """A run's begin and end (ISO 8601, UTC). `ended` is empty while it is at work, and after a kill."""

    name: str
    started: str
    ended: str = ""
    status: str = ""  # FINISHED, FAILED or KILLED, MLflow's words


@dataclass(frozen=True)
class Run:
    """A run as its store shows it."""

    record: RunRecord
    work: frozenset[str]  # keys of the ledger
    seen: float  # last sign of life, seconds by the store's clock (Unix time)


def begin_run(store: Store, name: str) -> None:
    """Make a run visible in the store; one that ended is at work again."""
    before = read_run(store, name)
    if before is None or before.ended:
        started = before.started if before else _now()
        _write(store, RunRecord(name=name, started=started))


def end_run(store: Store, name: str, status: str) -> None:
    """Record that the run is not at work any more. Nothing happens for a run that never began."""
    if before := read_run(store, name):
        _write(store, before.model_copy(update={"ended": _now(), "status": status}))


def note_work(store: Store, name: str, key: str, inputs: Mapping[str, str]) -> None:
    """Record that the run needs the work `key`, done or not, and its inputs (content digests by name)."""
    store.write_object(f"{run_folder(name)}/work/{key}", json.dumps(dict(inputs)).encode())


def inputs_of_work(store: Store, run: Run, keys: Set[str]) -> set[str]:
    """The content digests that went into those of the run's pieces of work."""
    found = store.read_objects([f"{run_folder(run.record.name)}/work/{key}" for key in run.work & keys])
    return {digest for raw in found.values() if raw for digest in json.loads(raw).values()}


def work_of_run(store: Store, name: str) -> list[str]:
    """The keys of the work that the run asked for."""
    return [item.rpartition("/")[2] for item in store.list_objects(f"{run_folder(name)}/work")]


def step_at_work(store: Store, name: str) -> str:
    """The step that the run was at when it gave its last sign of life, with its round; empty between two steps."""
    return (store.read_object(f"{run_folder(name)}/alive") or b"").decode()


def read_run(store: Store, name: str) -> RunRecord | None:
    """A run's begin and end, None if it never began."""
    raw = store.read_object(f"{run_folder(name)}/run.json")
    return RunRecord.model_validate_json(raw) if raw else None


def read_runs(store: Store) -> list[Run]:
    """Every run that the store knows, the newest first."""
    work: dict[str, set[str]] = {}
    seen: dict[str, float] = {}
    for entry in store.entries(_ROOT):
        _, folder, *rest = entry.name.split("/")
        name = unquote(folder)
        seen[name] = max(seen.get(name, 0.0), entry.modified)
        if rest[0] == "work":
            work.setdefault(name, set()).add(rest[1])
    raw = store.read_objects([f"{run_folder(name)}/run.json" for name in seen])
    runs = []
    for name in seen:
        found = raw[f"{run_folder(name)}/run.json"]
        began = datetime.fromtimestamp(seen[name], UTC).isoformat(timespec="seconds")
        record = RunRecord.model_validate_json(found) if found else RunRecord(name=name, started=began)
        runs.append(Run(record, frozenset(work.get(name, ())), seen[name]))
    return sorted(runs, key=lambda run: (run.record.started, run.record.name), reverse=True)


def forget_run(store: Store, name: str) -> None:
    """Delete all that the store knows of a run."""
    store.delete_objects(run_folder(name))


class SignsOfLife:
    """Writes a run's sign of life, the step at work, at once and then every minute, until `stop` or the process's end."""

    def __init__(self, store: Store, name: str, step: str = "", seconds: float = _BEAT) -> None:
        self._store, self._name, self._step, self._seconds = store, name, step.encode(), seconds
        self._stopped = threading.Event()
        begin_run(store, name)
        store.write_object(self._object, self._step)
        self._thread = threading.Thread(target=self._beat, name="signs of life", daemon=True)
        self._thread.start()

    @property
    def _object(self) -> str:
        return f"{run_folder(self._name)}/alive"

    def _beat(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self._store.write_object(self._object, self._step)
            except StoreError as error:  # the step's own requests will fail, or the store comes back
                log.warning("no sign of life of run %s could be written: %s", self._name, error)

    def stop(self, done: bool = True) -> None:
        """No further sign. Unless the step is `done` it stays the one at work: others go on with it."""
        self._stopped.set()
        self._thread.join()  # a sign that is being written would come after the last one
        if done:
            self._store.write_object(self._object, b"")


def run_folder(name: str) -> str:
    """The prefix below which a run's objects lie."""
    return f"{_ROOT}/{quote(name, safe='').replace('.', '%2E')}"


def _write(store: Store, record: RunRecord) -> None:
    store.write_object(f"{run_folder(record.name)}/run.json", record.model_dump_json(indent=1).encode())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
