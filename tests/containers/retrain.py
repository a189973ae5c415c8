"""A recurring retrain in containers: a schedule's stored spec run twice, compared, and rolled back. `make test-containers`.

The schedule is made by `deepvideo schedule create` on a server of KFP's own API models; what that stores is run as it is, by
kfp's Docker runner, on the S3 server and the MLflow whose variables are set. Exit code 0 if the second run started from
the first's policy, `compare` shows both, and `rollback` restores the first.
"""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import yaml

from components.promotion.rollback import versions
from components.shared.ledger import Ledger
from components.shared.runs import work_of_run
from components.shared.store import open_store
from components.shared.tracking.registry import RegisteredVersion, alias_version
from pipelines.containers.engine import LABEL, check_images, engine, is_rootless_podman, stop_containers
from pipelines.containers.names import STORE, TRACKING
from pipelines.containers.runner import InContainers
from tests.services.kfp_api import KfpApi
from tests.services.kfp_http import serve

PRESET = ("--preset", "laptop", "--rounds", "3")
FOLDER = Path("runs/retrain")
ALIAS = "champion"


def deepvideo(*arguments: str, **variables: str) -> str:
    """What the command prints; its failure is ours."""
    command = [sys.executable, "-m", "pipelines.cli", *arguments]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


def stored_run(model: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(spec, parameters) of a run that the schedule starts when it is due."""
    with serve(KfpApi(token="t", multi_user=True)) as api:
        known = {"KF_PIPELINES_ENDPOINT": api.url, "KF_PIPELINES_TOKEN": "t"}
        place = ("--store", os.environ[STORE], "--tracking-uri", os.environ[TRACKING])
        given = (*PRESET, "--from-champion", "--set", f"promotion.registered_model={model}", *place)
        deepvideo("schedule", "create", "weekly", "--cron", "0 3 * * mon", "--namespace", "team", *given, **known)
        ((identifier, job),) = api.recurring.items()
        run = api.fire(identifier, datetime.datetime.now(datetime.UTC))
        spec = api.versions[job.pipeline_version_reference.pipeline_version_id].pipeline_spec
        return spec, run.runtime_config.parameters


def run_in_containers(spec: dict[str, Any], parameters: dict[str, Any], name: str) -> None:
    """Run a stored spec to its end, every task in its image. Raises RuntimeError if one fails."""
    from kfp import components, local

    with engine() as client:
        check_images(client)
        folder = (FOLDER / name).absolute()
        mapped = is_rootless_podman(client)
        shared = InContainers(
            run=name, events=folder / "logs" / "e.jsonl", kernels=folder / "kernels", rootless_podman=mapped
        )
        shared.prepare(folder / "kfp")
        before = os.umask(0 if os.getuid() == 0 else 0o022)
        try:
            local.init(shared.runner(), pipeline_root=str(folder / "kfp"), raise_on_error=True)
            components.load_component_from_text(yaml.safe_dump(spec))(**parameters)
        finally:
            os.umask(before)
            stop_containers(client, name)
        assert not client.containers.list(filters={"label": f"{LABEL}={name}"})


def champion(model: str) -> RegisteredVersion:
    """The version that the alias names."""
    client, known = versions(os.environ[TRACKING], model)
    current = alias_version(client, model, ALIAS)
    assert current is not None, f"nothing was promoted: {known}"
    return known[current]


def base_of(run_name: str) -> str:
    """The digest of the policy that a run started from."""
    store = open_store(os.environ[STORE])
    (key,) = [key for key in work_of_run(store, run_name) if key.startswith("ingest-")]
    made = Ledger(store).finished(key)
    assert made is not None
    return made.artifacts["policy"].digest


def main() -> None:
    """Two runs, compared and rolled back."""
    model = f"retrain-{uuid.uuid4().hex[:8]}"  # a registered model of its own: there is no champion yet
    spec, parameters = stored_run(model)
    assert parameters["model_base"] == f"models:/{model}@{ALIAS} else tiny" and parameters["run_name"] == ""

    run_in_containers(spec, parameters, f"{model}-1")
    first = champion(model)
    run_in_containers(spec, parameters, f"{model}-2")
    _, known = versions(os.environ[TRACKING], model)
    (second,) = [item for item in known.values() if item.version != first.version]
    assert base_of(second.run_name) == first.policy.digest, "the second run did not start from the first's champion"

    compared = deepvideo("compare", first.run_name, second.run_name, MLFLOW_TRACKING_URI=os.environ[TRACKING])
    print(compared)
    assert first.run_name in compared and second.run_name in compared

    if champion(model).version != second.version:  # it was no better, and stayed a candidate
        deepvideo(
            "rollback", "--to", second.version, "--registered-model", model, "--tracking-uri", os.environ[TRACKING]
        )
    assert champion(model).version == second.version
    back = ("rollback", "--to", first.version, "--registered-model", model, "--tracking-uri", os.environ[TRACKING])
    print(deepvideo(*back))
    assert champion(model).policy.digest == first.policy.digest
    print("The second run started from the first's champion; compare shows both; rollback restored the first.")


if __name__ == "__main__":
    main()
