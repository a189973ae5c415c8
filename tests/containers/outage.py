"""A run in containers through which S3 and MLflow are killed, beside one that is left alone. Part of `make test-containers`.

S3's server is killed while a version is half written, three times for half a minute: a dataset, a training state and a
policy. MLflow's server is killed for the whole of the first training
step. Exit code 0 if the run ends as the other did: the same versions of all that is learned from, no half-written one ever
readable, and every metric of every step in MLflow once.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from components.shared.progress import read_events
from components.shared.store import open_store
from components.shared.store.base import KINDS
from components.shared.store.manifest import MANIFEST
from components.shared.store.s3_client import open_client as open_s3
from components.shared.tracking.client import open_client as open_mlflow
from components.shared.tracking.client import quoted
from components.shared.tracking.runs import ROUND_TAG, RUN_TAG, STEP_TAG
from pipelines.artifacts_cli import get_version
from pipelines.containers.check import empty_cache
from pipelines.containers.names import STORE, TRACKING
from pipelines.containers.radosgw import Gateway
from pipelines.containers.services import Services, services
from pipelines.run_folder import RunFolder

FOLDER = Path("runs/outage")
AWAY = 30.0  # seconds
TRANSFERS = ("dataset", "state", "policy")  # kinds of versions, during a transfer of each of which S3 is killed
TRAINING, AFTER_IT = "training, round 1", "sampling, round 2"
_TIMED = ("report",)  # kinds of versions that hold times
_LIMIT = 1800.0  # seconds for a run

Told = dict[tuple[str, str, str], list[tuple[int, float]]]  # (step, round, metric) -> (step on the axis, value)


def start(name: str, store: str) -> subprocess.Popen[bytes]:
    """The small run in containers, begun in an empty folder; its progress goes to this terminal."""
    shutil.rmtree(FOLDER / name, ignore_errors=True)
    command = ["run", "--containers", "--preset", "kill", "--output", str(FOLDER / name)]
    return subprocess.Popen([sys.executable, "-m", "pipelines.cli", *command], env={**os.environ, STORE: store})


def half_written(client: Any, store: str, kinds: Iterable[str] = KINDS) -> list[str]:
    """The versions of which there is something in the bucket, files or parts of one, and no manifest."""
    bucket, _, prefix = store.removeprefix("s3://").partition("/")
    found = []
    for kind in kinds:
        place = {"Bucket": bucket, "Prefix": f"{prefix}/{kind}/"}
        pages = client.get_paginator("list_objects_v2").paginate(**place)
        parts = client.list_multipart_uploads(**place).get("Uploads", ())
        items = [*(item for page in pages for item in page.get("Contents", ())), *parts]
        names = {item["Key"].removeprefix(f"{prefix}/") for item in items}
        versions = {"/".join(name.split("/")[:2]) for name in names}
        found += [version for version in versions if f"{version}/{MANIFEST}" not in names]
    return found


def check_readable(store: str) -> None:
    """Fetch every version that the store lists, by its digests. Raises StoreError if one is not whole."""
    with tempfile.TemporaryDirectory() as scratch, empty_cache(Path(scratch)):
        for version in open_store(store).versions():
            with contextlib.redirect_stdout(None):
                get_version(version, Path(scratch) / version.replace("/", "-"), store)


def kill_s3(gateway: Gateway, version: str, store: str) -> None:
    """S3 is gone for half a minute; whatever it then lists is whole."""
    gateway.kill_gateway()
    print(f"S3 killed while {version[:20]}... was half written, for {AWAY:.0f} s", flush=True)
    time.sleep(AWAY)
    gateway.start_gateway()
    check_readable(store)


def disturb(run: subprocess.Popen[bytes], progress: Path, store: str, running: Services) -> None:
    """Kill the servers at their moments while the run is at work."""
    assert running.gateway and running.mlflow, "the servers are another's"
    moments, began, client = set(TRANSFERS), time.monotonic(), open_s3()
    tracked = True
    away = 0.0
    while run.poll() is None:
        assert time.monotonic() - began < _LIMIT, "the run does not end"
        events = [(event["event"], event.get("step")) for event in read_events(progress)[0]]
        if tracked and not away and ("step_started", TRAINING) in events:
            running.mlflow.kill()
            tracked, away = False, time.monotonic()
            print("MLflow killed, for the training step", flush=True)
        if not tracked and ("step_started", AFTER_IT) in events:
            running.mlflow.start()
            tracked = True
            print(f"MLflow is back, after {time.monotonic() - away:.0f} s", flush=True)
        if found := half_written(client, store, moments):
            kill_s3(running.gateway, found[0], store)
            moments.discard(found[0].partition("/")[0])
        time.sleep(0.01)
    assert run.returncode == 0, "the disturbed run failed"
    assert not moments, f"S3 was not killed during a transfer of {', '.join(moments)}"
    assert tracked and away, "MLflow was not killed"


def learned(folder: RunFolder) -> set[str]:
    """The versions that hold no times: equal runs have equal ones."""
    return {name for name in folder.open_store().versions() if name.partition("/")[0] not in _TIMED}


def told(folder: RunFolder) -> Told:
    """What MLflow knows of the steps of a run."""
    identity = folder.started_with()
    assert identity is not None
    client = open_mlflow(folder.tracking_uri)
    every = [item.experiment_id for item in client.search_experiments()]
    found: Told = collections.defaultdict(list)
    for run in client.search_runs(every, f"tags.`{RUN_TAG}` = {quoted(identity.name)}", max_results=1000):
        assert run.info.status == "FINISHED", f"{run.info.run_name} is {run.info.status}"
        for metric in run.data.metrics:
            place = (run.data.tags.get(STEP_TAG, ""), run.data.tags.get(ROUND_TAG, ""), metric)
            found[place] += [(item.step, item.value) for item in client.get_metric_history(run.info.run_id, metric)]
    return found


def check_metrics(before: Told, after: Told) -> None:
    """Raises AssertionError naming a metric that is missing, differs or is there twice. The machine's own are sampled."""
    for place, points in after.items():
        steps = [step for step, _ in points]
        assert place[2].startswith("system/") or len(steps) == len(set(steps)), f"{place} is there twice"
    ours = {place for place in before if not place[2].startswith("system/")}
    assert ours == {place for place in after if not place[2].startswith("system/")}, ours ^ set(after)
    lost = {place for place in ours if {step for step, _ in before[place]} != {step for step, _ in after[place]}}
    assert not lost, f"not the same points: {sorted(lost)}"
    learning = {place for place in ours if place[0] == "training" and place[2] in ("loss", "kl", "grad_norm", "reward")}
    assert learning, "training told nothing"
    assert all(sorted(before[place]) == sorted(after[place]) for place in learning), "not the same values"
    print(f"MLflow: {sum(len(before[place]) for place in ours)} values of {len(ours)} metrics, each there once")


@contextlib.contextmanager
def named(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def main() -> None:
    """Two equal runs, one disturbed."""
    given = {name: os.environ.pop(name) for name in (STORE, TRACKING) if name in os.environ}
    assert not given, f"this kills the servers: it takes none of yours ({', '.join(given)})"
    with services(FOLDER / "services") as running, named(running.variables):
        place = f"{running.variables[STORE].rpartition('/')[0]}/{uuid.uuid4().hex[:8]}"
        stores = {name: f"{place}/{name}" for name in ("undisturbed", "disturbed")}
        assert start("undisturbed", stores["undisturbed"]).wait(_LIMIT) == 0
        run = start("disturbed", stores["disturbed"])
        try:
            disturb(run, RunFolder(FOLDER / "disturbed").progress, stores["disturbed"], running)
        finally:
            run.terminate()
        one, other = (RunFolder(FOLDER / name) for name in stores)
        assert learned(one) == learned(other), learned(one) ^ learned(other)
        check_readable(other.store)
        check_metrics(told(one), told(other))
        print(json.dumps({"versions equal": len(learned(one)), "half written": half_written(open_s3(), other.store)}))
    print("S3 and MLflow were killed during the run, and it ended as the one that was left alone.")


if __name__ == "__main__":
    main()
