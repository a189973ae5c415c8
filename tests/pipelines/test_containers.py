"""Runs in containers: what a container is allowed and told, what is refused before one starts, and the services."""

from __future__ import annotations

import http.server
import json
import os
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import docker
import pytest
import yaml
from mlflow import MlflowClient

from components.shared.images import image
from components.shared.schemas import Kind
from pipelines import cli
from pipelines.containers import engine as engines
from pipelines.containers.check import check_store
from pipelines.containers.names import STORE, TRACKING
from pipelines.containers.runner import InContainers
from pipelines.containers.services import services
from pipelines.containers.task import run_container
from pipelines.dag import compile_pipeline
from pipelines.run_folder import RunFolder, RunRefused
from pipelines.settings import RunSettings, build_settings
from tests.services.http_server import Answer, Request, http_server

SECRET = "a-secret-that-no-file-holds"


def images_of(path: Path) -> dict[str, str]:
    """Executor -> image of a compiled pipeline."""
    executors = next(yaml.safe_load_all(path.read_text()))["deploymentSpec"]["executors"]
    return {name: item["container"]["image"] for name, item in executors.items()}


def test_a_local_pipelines_tasks_name_the_images_that_a_machine_without_gpu_has(tmp_path: Path) -> None:
    found = images_of(compile_pipeline(RunSettings(), tmp_path / "p.yaml", cluster=False))
    assert set(found.values()) == {image(role, cpu=True) for role in ("light", "generation", "training")}
    settings = build_settings({"training_pods.gpu_count": 1})
    found = images_of(compile_pipeline(settings, tmp_path / "p.yaml", cluster=False))
    assert found["exec-train-policy"] == image("training") and found["exec-evaluate-base"] == image("generation", True)


def test_the_check_after_a_run_names_every_version_that_cannot_be_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path / "run")
    assert check_store(folder) == [f"{folder.store}: holds no version"]
    versions = []
    kinds: tuple[Kind, ...] = ("policy", "dataset", "state")
    for kind in kinds:
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "file").write_text(kind)
        stored = folder.open_store().put(tmp_path / kind, kind)
        versions.append(f"{kind}/{stored.digest}")
    assert check_store(folder) == []
    assert "3 of 3 versions read back, every file verified" in capsys.readouterr().out
    for version in versions[:2]:
        broken = Path(folder.store) / version / "file"
        broken.chmod(0o644)
        broken.write_text("another")
    faults = check_store(folder)
    assert sorted(fault.partition(":")[0] for fault in faults) == sorted(versions[:2])
    assert "1 of 3 versions read back" in capsys.readouterr().out


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What containers are started with, given a secret and the path of a data set."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    shared = InContainers(
        run="r", events=tmp_path / "logs" / "e.jsonl", kernels=tmp_path / "kernels", inputs=(tmp_path / "data",)
    )
    shared.prepare(tmp_path / "kfp")
    assert SECRET not in shared.model_dump_json()  # it is an argument on a command line
    return InContainers.model_validate_json(shared.model_dump_json()).runner().container_run_args


def test_a_container_is_not_root_and_may_write_its_scratch_and_the_runs_folders_only(
    options: dict[str, Any], tmp_path: Path
) -> None:
    user, group = options["user"].split(":")
    assert user != "0" and group != "0"
    assert options["read_only"] and options["cap_drop"] == ["ALL"] and options["security_opt"] == ["no-new-privileges"]
    assert set(options["tmpfs"]) == {"/scratch"}
    writable = {mount["Target"] for mount in options["mounts"] if not mount["ReadOnly"]}
    assert writable == {str(tmp_path / "logs"), str(tmp_path / "kernels")}
    assert all((Path(folder).stat().st_uid == int(user)) for folder in (*writable, tmp_path / "kfp"))


def test_a_container_gets_the_credentials_from_the_environment_and_the_pipeline_does_not(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert options["environment"]["AWS_SECRET_ACCESS_KEY"] == SECRET
    assert not set(options["environment"]) & {"HOME", "PATH", "PYTHONPATH", "DEEPVIDEO_ANCESTOR"}
    compiled = compile_pipeline(RunSettings(), tmp_path / "p.yaml", cluster=False, run_store="s3://bucket/store")
    assert SECRET not in compiled.read_text()


def test_images_that_are_not_there_are_refused_with_what_builds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def api(request: Request) -> Answer:
        if request.path.endswith("/_ping"):
            return 200, "OK"
        if request.path.endswith("/version"):
            return 200, {"ApiVersion": "1.41"}
        return 404, {"message": "no such image"}

    with http_server(api) as server:
        monkeypatch.setenv("DOCKER_HOST", server.url.replace("http://", "tcp://"))
        with engines.engine() as client, pytest.raises(RunRefused, match=r"no image .*light.*`make images`"):
            engines.check_images(client)


def test_a_containers_output_is_whole_and_its_exit_code_is_asked_for_before_it_is_removed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[str] = []
    mark = "\N{CHECK MARK}".encode()

    def framed(data: bytes) -> bytes:
        return b"\x01\0\0\0" + len(data).to_bytes(4, "big") + data

    class Engine(http.server.BaseHTTPRequestHandler):
        def _handle(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append(f"{self.command} {urlsplit(self.path).path.rpartition('/')[2]}")
            sent = json.dumps({"Id": "c1", "ApiVersion": "1.41", "StatusCode": 7, "Config": {"Tty": False}}).encode()
            if asked[-1] == "GET logs":
                sent = framed(mark[:1]) + framed(mark[1:] + b" done\n")  # a character in two pieces
            self.send_response(204 if asked[-1] in ("POST start", "DELETE c1") else 200)
            self.send_header("Content-Length", str(len(sent) if asked[-1] not in ("POST start", "DELETE c1") else 0))
            self.end_headers()
            if asked[-1] not in ("POST start", "DELETE c1"):
                self.wfile.write(sent)

        do_GET = do_POST = do_DELETE = _handle

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Engine) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = docker.DockerClient(base_url=f"tcp://127.0.0.1:{server.server_address[1]}")
        assert run_container(client, "image", ["command"], {}) == 7
        server.shutdown()
    assert capsys.readouterr().out == "\N{CHECK MARK} done\n"
    assert asked.index("POST wait") < asked.index("DELETE c1")


def test_an_engine_that_does_not_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    with pytest.raises(RunRefused, match="no container engine answers"), engines.engine():
        pass


def test_containers_without_services_are_refused_with_the_command_that_starts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (STORE, TRACKING):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.argv", ["deepvideo", "run", "--containers", "--output", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and "`deepvideo services" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_on_services_is_found_again_by_its_folder_and_refuses_another_store(tmp_path: Path) -> None:
    begun = RunFolder(tmp_path, f"file://{tmp_path}/one", "http://mlflow:5000")
    name = begun.start(RunSettings()).name
    again = RunFolder(tmp_path)
    assert (again.store, again.tracking_uri) == (begun.store, begun.tracking_uri)
    assert again.start(RunSettings()).name == name
    assert again._now(name, RunSettings()).differences(RunFolder(tmp_path, "s3://other")._now(name, RunSettings()))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """An empty folder that others may enter: PostgreSQL has a user of its own where we are root, whom pytest's shut out."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_the_services_keep_their_data_and_addresses_between_calls(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (STORE, TRACKING, "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    told = []
    for turn in range(2):
        before = dict(os.environ)
        with services(open_folder) as started:
            assert dict(os.environ) == before
            variables = started.variables
            told.append(variables)
            with services(open_folder) as others:  # a second command beside the first uses what runs
                assert others.variables == variables
            keys = {"aws_access_key_id": variables["AWS_ACCESS_KEY_ID"], "region_name": "us-east-1"}
            s3 = boto3.session.Session(**keys, aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"]).client(
                "s3", endpoint_url=variables["AWS_ENDPOINT_URL"]
            )
            bucket = variables[STORE].split("/")[2]
            client = MlflowClient(variables[TRACKING])
            if turn == 0:
                s3.put_object(Bucket=bucket, Key="kept", Body=b"kept")
                client.create_experiment("kept")
            assert s3.get_object(Bucket=bucket, Key="kept")["Body"].read() == b"kept"
            assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
            assert client.get_experiment_by_name("kept") is not None
    assert told[0] == told[1]
    for name in ("secrets.json", "s3/ceph.conf"):
        assert (open_folder / name).stat().st_mode & 0o077 == 0, name
    assert json.loads((open_folder / "secrets.json").read_text())["secret_key"] == told[0]["AWS_SECRET_ACCESS_KEY"]
    with pytest.raises(OSError):
        urllib.request.urlopen(told[0][TRACKING], timeout=5)
