"""After a run in containers: what it left is where it belongs, and can be read. Exit code 1 and what is missing, else 0.

deepvideo services -- python -m pipelines.containers.check runs/containers
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import track

from components.shared.images import ROLES, image
from components.shared.store.s3_client import open_client as open_s3
from components.shared.tracking.client import open_client as open_mlflow
from components.shared.tracking.client import quoted
from components.shared.tracking.runs import ROUND_TAG, RUN_TAG, STEP_TAG
from pipelines.artifacts_cli import get_version
from pipelines.containers.engine import engine
from pipelines.run_folder import RunFolder

_ONCE = ("ingest", "evaluation before", "evaluation after", "promotion")
_EACH_ROUND = ("difficulty", "augmentation", "rollout", "training")


def check_store(folder: RunFolder) -> list[str]:
    """What is wrong with the bucket: `deepvideo artifacts get` reads every version into an empty cache, by its digests."""
    faults = []
    if folder.store.startswith("s3://"):
        bucket = folder.store.removeprefix("s3://").partition("/")[0]
        if open_s3().get_bucket_versioning(Bucket=bucket).get("Status") != "Enabled":
            faults.append(f"bucket {bucket}: versioning is off")
    with tempfile.TemporaryDirectory() as scratch, empty_cache(Path(scratch)):
        versions = folder.open_store().versions()
        terminal = Console(file=sys.stdout)  # stays when what the command prints of each version is left out
        unreadable = []
        for version in track(versions, "Reading every version back", console=terminal):
            try:
                with contextlib.redirect_stdout(None):
                    get_version(version, Path(scratch) / "got" / version.replace("/", "-"), folder.store)
            except Exception as error:  # each version is told, not only the first that cannot be read
                unreadable.append(f"{version}: {error}")
    read = len(versions) - len(unreadable)
    print(f"{folder.store}: {read} of {len(versions)} versions read back, every file verified by its SHA-256")
    faults += unreadable
    return faults if versions else [f"{folder.store}: holds no version"]


def check_mlflow(folder: RunFolder, name: str, rounds: int) -> list[str]:
    """What is missing in MLflow: the run's own run and one for each step and round, all ended, the report attached."""
    client = open_mlflow(folder.tracking_uri)
    every = [item.experiment_id for item in client.search_experiments()]
    runs = list(client.search_runs(every, f"tags.`{RUN_TAG}` = {quoted(name)}", max_results=1000))
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    if len(parents) != 1:
        return [f"MLflow has {len(parents)} parent runs of {name}"]
    parent = parents[0].info.run_id
    there = {
        (run.data.tags.get(STEP_TAG, ""), int(run.data.tags.get(ROUND_TAG, "0")))
        for run in runs
        if run.data.tags.get("mlflow.parentRunId") == parent
    }
    wanted = {(step, 0) for step in _ONCE} | {(step, k) for step in _EACH_ROUND for k in range(1, rounds + 1)}
    faults = [f"MLflow: no nested run of {step}, round {k}" for step, k in sorted(wanted - there)]
    faults += [f"MLflow: {run.info.run_name} is {run.info.status}" for run in runs if run.info.status != "FINISHED"]
    if not client.list_artifacts(parent):
        faults.append("MLflow: no report is attached to the parent run")
    print(f"MLflow: 1 parent run and {len(there)} nested runs of {name}")
    return faults


def check_users() -> list[str]:
    """Which images' processes are root."""
    faults = []
    with engine() as client:
        for role in ROLES:
            told = client.containers.run(image(role, cpu=True), ["id", "-u"], remove=True, network_mode="host")
            print(f"{image(role, cpu=True)}: id -u is {told.decode().strip()}")
            faults += [f"{image(role, cpu=True)} runs as root"] if int(told) == 0 else []
    return faults


@contextlib.contextmanager
def empty_cache(folder: Path) -> Iterator[None]:
    before = os.environ.get("DEEPVIDEO_CACHE")
    os.environ["DEEPVIDEO_CACHE"] = str(folder / "cache")
    try:
        yield
    finally:
        del os.environ["DEEPVIDEO_CACHE"]
        if before is not None:
            os.environ["DEEPVIDEO_CACHE"] = before


def main(root: Path) -> int:
    """Check the run in that folder; returns the exit code."""
    folder = RunFolder(root)
    folder.require_finished()
    began = folder.started_with()
    assert began is not None
    rounds = int(began.settings["pipeline"]["rounds"])
    faults = [*check_store(folder), *check_mlflow(folder, began.name, rounds), *check_users()]
    print("\n".join(faults) if faults else "Everything that the run left is there and can be read.")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
