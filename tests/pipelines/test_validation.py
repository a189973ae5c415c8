"""The first task of a run: it refuses a store that cannot be used, and makes the run and what it needs visible there."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from components.ingest.errors import IngestError
from components.shared.context import StepContext
from components.shared.face import StepFace
from components.shared.lineage import Rules, plan_collection
from components.shared.runs import read_runs
from components.shared.store import StoreError, open_store
from components.shared.tracking import TrackingError
from components.shared.tracking.client import open_client
from components.shared.tracking.registry import POLICY_TAG
from pipelines.containers.radosgw import Bucket
from pipelines.inputs import STORE, TRACKING, signature
from pipelines.settings import SettingsError, build_settings
from pipelines.validation.room import PodPlan
from pipelines.validation.step import run
from tests.services.http_server import http_server


def validate(store: str, **inputs: str) -> StepContext:
    settings = build_settings({"pipeline": {"rounds": 1}})
    defaults = {name: item.default for name, item in signature(settings, {}).parameters.items()}
    return StepContext.model_validate_json(
        run(settings.model_dump_json(), "run-1", {**defaults, STORE: store, **inputs})[1]
    )


def test_a_store_that_cannot_be_used_ends_the_run_before_it_begins(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreError, match="there is no such bucket: create it"):
        validate("s3://absent-bucket/p")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreError, match="the secret key is wrong"):
        validate(f"{bucket.uri}/p")


def test_an_mlflow_that_cannot_be_reached_ends_the_run_before_it_begins(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # taken, and nobody listens
        started = time.monotonic()
        with pytest.raises(TrackingError, match="MLflow at http://127.0.0.1.*start it, correct the tracking URI"):
            validate(str(tmp_path), **{TRACKING: f"http://127.0.0.1:{free.getsockname()[1]}"})
    assert time.monotonic() - started < 150


def test_a_model_that_is_not_there_ends_the_run_before_it_begins(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(IngestError, match="is no folder, s3:// URI or hub id"):
        validate(str(tmp_path), model_base="not-a-model")
    with pytest.raises(IngestError, match="s3://.*/absent has no config.json: correct the path"):
        validate(str(tmp_path), model_base=f"{bucket.uri}/absent")
    with pytest.raises(IngestError, match="there is no s3://.*/questions.jsonl; correct the name, or upload it"):
        validate(str(tmp_path), data_annotations=f"{bucket.uri}/questions.jsonl")
    with http_server(lambda request: (404, {"error": "Repository not found"})) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        with pytest.raises(IngestError, match="nobody/nothing at 0{40} cannot be had from the hub.*check both names"):
            validate(str(tmp_path), model_base="nobody/nothing", model_revision="0" * 40)
    assert f"/nobody/nothing/resolve/{'0' * 40}/config.json" in [request.path for request in hub.requests]
    assert read_runs(open_store(str(tmp_path))) == []


def test_more_gpus_than_the_pool_has_end_the_run_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = {"cluster.gpus_per_node": 4, "cluster.gpu_memory": 80, "training_pods.gpu_count": 8}
    settings = build_settings({"pipeline": {"rounds": 1}}, pool)
    inputs = {name: item.default for name, item in signature(settings, {}).parameters.items()}
    inputs |= {STORE: str(tmp_path), "gpu_type": "nvidia.com/gpu", "gpu_tolerations": []}
    with pytest.raises(SettingsError, match="training_pods.gpu_count: is 8, but the largest node .* has 4"):
        run(settings.model_dump_json(), "run-1", dict(inputs), PodPlan.of(settings).model_dump_json())
    assert read_runs(open_store(str(tmp_path))) == []
    fits = build_settings({"pipeline": {"rounds": 1}}, {**pool, "training_pods.gpu_count": 4})
    run(fits.model_dump_json(), "run-1", dict(inputs), PodPlan.of(fits).model_dump_json())
    # by hand: 2 GiB for CUDA, and activations of 4 layers, 34 bytes * 4096 tokens * 128 wide, are 0.07 GiB
    assert "training: about 2.1 GiB of each GPU" in capsys.readouterr().out


def test_a_run_is_at_work_from_its_first_task_on_and_its_store_settings_reach_the_steps(tmp_path: Path) -> None:
    context = validate(str(tmp_path), settings_overrides="store.patience: 7")
    assert context.store_settings.patience == 7
    (seen,) = read_runs(context.open_store())
    assert (seen.record.name, seen.record.ended) == ("run-1", "")
    face = StepFace("ingest", context.model_dump_json(), "{}")
    face._alive.stop()
    assert "runs/run-1/alive" in context.open_store().list_objects("runs")


def test_the_champion_that_a_run_challenges_is_kept_although_its_alias_moved_on(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("champion")
    policy = store.put(tmp_path / "a", "policy")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client, name = open_client(uri), build_settings().promotion.registered_model
    client.create_registered_model(name)
    client.create_model_version(name, policy.uri, tags={POLICY_TAG: policy.model_dump_json()}, await_creation_for=0)
    client.set_registered_model_alias(name, "champion", "1")
    validate(str(tmp_path / "store"), **{TRACKING: uri})
    later = 4e9  # Unix time
    assert plan_collection(store, Rules(keep_runs=1), later).versions == {}
    assert list(plan_collection(store, Rules(keep_runs=0), later).versions) == [f"policy/{policy.digest}"]
