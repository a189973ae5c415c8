"""The folder of a local run: its lock, what it was started with, and where everything in it lies."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from components.shared.files import sha256_bytes, sha256_file, write_atomic
from components.shared.ledger import Ledger, Outputs, code_version
from components.shared.runs import work_of_run
from components.shared.schemas import Record
from components.shared.store import Store, open_store
from pipelines.failures import step_at_work
from pipelines.settings import RunSettings


class RunRefused(RuntimeError):
    """The folder cannot be used for this run; the message says why and what to do."""


class Identity(Record):
    """What a run was started with. A run is continued only by the same."""

    name: str  # the run's, unique: it is found by it in MLflow
    settings: dict[str, Any]
    data: dict[str, str]  # what the data looked like: setting -> fingerprint
    code: str
    store: str = ""  # empty: in the run's folder
    tracking_uri: str = ""  # empty: beside the run's folder

    def differences(self, other: Identity) -> list[str]:
        """What differs in `other`, a line each.

        More rounds are no difference: they continue the run. Nor are other shards, which the results do not depend on.
        """
        lines = [
            f"{section}.{name}: was {old[name]!r}, now {new.get(name)!r}"
            for section, old in self.settings.items()
            for new in [other.settings.get(section, {})]
            for name in old
            if old[name] != new.get(name) and not (section == "pipeline" and _continues(name, old, new))
        ]
        named = {line.partition(":")[0] for line in lines}
        changed = (name for name in self.data if self.data[name] != other.data.get(name, ""))
        lines += [f"{name}: its content changed" for name in changed if name not in named]
        if self.store != other.store:
            lines.append(f"--store: was {self.store or 'the run folder'}, now {other.store or 'the run folder'}")
        if self.code != other.code:
            lines.append("the project's code changed")
        return lines


def _continues(name: str, old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether a run whose pipeline setting `name` changed goes on with what it has."""
    return name in ("shards", "evaluation_shards") or name == "rounds" and new[name] > old[name]


def identity(name: str, settings: RunSettings, store: str = "", tracking_uri: str = "") -> Identity:
    """What a run of that name, with these settings and on these services, would be started with now."""
    data = {
        f"ingest.{name}": _fingerprint(getattr(settings.ingest, name)) for name in ("annotations", "videos", "model")
    }
    return Identity(
        name=name,
        settings=settings.model_dump(mode="json"),
        data=data,
        code=code_version(),
        store=store,
        tracking_uri=tracking_uri,
    )


def _fingerprint(value: str) -> str:
    """A digest that changes with a local file's content, or with names, sizes and times below a folder."""
    path = Path(value)
    if value and path.is_file():
        return sha256_file(path)
    if value and path.is_dir():
        stats = [(item.relative_to(path).as_posix(), item.stat()) for item in sorted(path.rglob("*")) if item.is_file()]
        return sha256_bytes(*(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode() for name, stat in stats))
    return value


class RunFolder:
    """Where the parts of a run lie. `store` and `tracking_uri`: elsewhere than here; by default where the run began."""

    def __init__(self, root: Path, store: str = "", tracking_uri: str = "") -> None:
        self.root = root.absolute()
        self.kfp = self.root / "kfp"
        self.logs = self.root / "logs"
        self.pipeline = self.root / "pipeline.yaml"
        self.progress = self.logs / "progress.jsonl"
        self.pipeline_log = self.logs / "pipeline.log"
        self.result = self.root / "result.json"
        self.report = self.root / "report.html"
        self.summary = self.root / "summary.json"
        self.samples = self.root / "samples"
        self._identity = self.root / "run.json"
        began = self.started_with()
        self._remote_store = store or (began.store if began else "")
        self._remote_tracking = tracking_uri or (began.tracking_uri if began else "")

    @property
    def store(self) -> str:
        """Where the run's artifacts and ledger are."""
        return self._remote_store or str(self.root / "store")

    @property
    def tracking_uri(self) -> str:
        """MLflow: by default a database beside the run's folder, so that runs side by side are compared in one place."""
        return self._remote_tracking or f"sqlite:///{self.root.parent / 'mlflow.db'}"

    def open_store(self) -> Store:
        """The run's artifact store."""
        return open_store(self.store)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from running in this folder. Raises RunRefused if one does, or if it cannot be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = open(self.root / ".lock", "w")  # noqa: SIM115  # closed below
        except OSError as error:
            raise RunRefused(
                f"--output {self.root}: cannot be written ({error.strerror}); give another folder"
            ) from None
        with lock as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunRefused(
                    f"{self.root}: another run is at work here; wait for it or give another --output"
                ) from None
            yield

    def started_with(self) -> Identity | None:
        """What the run in this folder was started with, None if there is none."""
        return Identity.model_validate_json(self._identity.read_text()) if self._identity.is_file() else None

    def ingested(self) -> Outputs | None:
        """What the run's ingest left, None before it is finished."""
        if (began := self.started_with()) is None:
            return None
        store = self.open_store()
        keys = [key for key in work_of_run(store, began.name) if key.startswith("ingest-")]
        return next(filter(None, (Ledger(store).finished(key) for key in keys)), None)

    def start(self, settings: RunSettings) -> Identity:
        """Record what the run is started with. Raises RunRefused if the folder holds a run that differs.

        A run that never finished its ingest has made nothing that could differ: another may take its place.
        """
        before = self.started_with()
        if before is not None and (differences := before.differences(self._now(before.name, settings))):
            if self.ingested() is not None:
                raise RunRefused(
                    f"{self.root} holds a run that was started differently:\n"
                    + "\n".join(f"  {line}" for line in differences)
                    + "\nGive --fresh to start over there, or another --output."
                )
            before = None
        now = self._now(before.name if before else f"{self.root.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}", settings)
        if before != now:
            self.result.unlink(missing_ok=True)
            write_atomic(self._identity, now.model_dump_json(indent=1))
        return now

    def _now(self, name: str, settings: RunSettings) -> Identity:
        return identity(name, settings, self._remote_store, self._remote_tracking)

    def finished(self) -> bool:
        """Whether the run in this folder has its report."""
        return self.result.is_file()

    def state(self) -> Literal["none", "at work", "stopped", "finished"]:
        """What became of the run in this folder: none was started, it runs, it failed or was stopped, or it has ended."""
        if self._is_locked():
            return "at work"
        if self.finished():
            return "finished"
        return "stopped" if self.started_with() else "none"

    def _is_locked(self) -> bool:
        try:
            with open(self.root / ".lock") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def require_finished(self) -> None:
        """Raise RunRefused unless the run in this folder is finished; the message says what became of it."""
        state, where = self.state(), self.where()
        if state == "at work":
            raise RunRefused(f"{self.root}: the run is still at work{where}; try again when it has ended")
        if state == "stopped":
            raise RunRefused(
                f"{self.root}: the run stopped before its end{where}; its `deepvideo run` command, given again, continues"
                f" it\nWhat it printed: {self.pipeline_log}"
            )
        if state == "none":
            raise RunRefused(f"{self.root}: there is no run; start one with `deepvideo run --output {self.root}`")

    def where(self) -> str:
        """ ", in <step>" for the step at which the run is or was; empty between two."""
        step = step_at_work(self.progress)
        return f", in {step}" if step else ""

    def summary_values(self) -> dict[str, Any]:
        """The content of summary.json."""
        return json.loads(self.summary.read_text())

    def clear(self) -> None:
        """Remove the run."""
        for item in self.root.iterdir() if self.root.is_dir() else ():
            if item.name != ".lock":
                shutil.rmtree(item) if item.is_dir() else item.unlink()
