"""What the command line says, in a terminal of 80 columns."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PlatformSpec
from rich.console import Console

from components.shared.images import LOCAL_REGISTRY
from pipelines import cli
from pipelines.cluster import still_to_set
from pipelines.faces import FACES, face_of
from pipelines.settings import build_settings, load_preset
from pipelines.single_step import STEPS

Said = tuple[int, str, str]


@pytest.fixture
def deepvideo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The command, run in this process: exit code, standard output, standard error."""
    monkeypatch.setattr(cli, "console", Console(width=80))
    monkeypatch.setattr(cli, "errors", Console(width=80, stderr=True))
    monkeypatch.setenv("COLUMNS", "80")

    def command(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["deepvideo", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(str(ended.value.code)), *capsys.readouterr()

    return command


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--annotations", "nowhere.jsonl"], ["ingest.annotations", "nowhere.jsonl: there is no such file"]),
        (["--model", "nowhere/model"], ["ingest.model", "nowhere/model", "ingest.model_revision"]),
        (["--videos", "nowhere"], ["ingest.videos", "give ingest.annotations as well"]),
        (["--preset", "desktop"], ["'desktop'", "laptop"]),
        (["--settings", "absent.yaml"], ["--settings absent.yaml: there is no such file"]),
        (["--set", "rewards.reward_funcs=format,accuracy,no_such_module:f"], ["rewards.reward_funcs", "cannot import"]),
        (["--set", "evaluation.level=L1"], ["--set evaluation.level", "did you mean evaluation.levels?"]),
    ],
)
def test_wrong_input_is_refused_before_anything_is_made(
    deepvideo: Callable[..., Said], tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    code, _, told = deepvideo("run", "--output", str(tmp_path / "run"), *arguments)
    assert code == 2 and all(word in told for word in words), told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["report", "show", "ask"])
def test_what_needs_a_run_says_that_there_is_none(deepvideo: Callable[..., Said], tmp_path: Path, command: str) -> None:
    arguments = {"report": [], "show": ["--run"], "ask": ["a.mp4", "Where?", "--policy"]}[command]
    code, _, told = deepvideo(command, *arguments, str(tmp_path))
    assert code == 2 and str(tmp_path) in told


def test_an_output_that_cannot_be_made_is_refused(deepvideo: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, told = deepvideo("run", "--preset", "kill", "--output", str(tmp_path / "file" / "run"))
    assert code == 2 and f"--output {tmp_path}/file/run: cannot be written (Not a directory)" in told.replace("\n", "")


def test_the_help_of_step_lists_every_step(deepvideo: Callable[..., Said]) -> None:
    code, told, _ = deepvideo("step", "--help")
    plain = " ".join(told.replace("│", " ").split())
    assert code == 0 and ", ".join(STEPS) in plain


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trainig", "--run", "."], ["did you mean training?"]),
        (["augmentation", "--run", "nowhere"], ["--input dataset=REF.json"]),
        (["ingest", "--run", ".", "--input", "dataset"], ["--input dataset: expected NAME=REF.json"]),
        (["ingest", "--run", ".", "--input", "dataset=a.json"], ["--input dataset: ingest takes no input"]),
        (["evaluation-before", "--run", "."], ["--input dataset=REF.json --input policy=REF.json"]),
    ],
)
def test_a_step_that_cannot_run_says_what_it_needs(
    deepvideo: Callable[..., Said], tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    code, _, told = deepvideo("step", *arguments, "--output", str(tmp_path / "out"))
    assert code == 2 and all(word in told for word in words), told
    assert not (tmp_path / "out").exists()


def test_a_step_that_reads_something_begins_no_run_folder(deepvideo: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "ref.json").write_text("{}")
    inputs = [word for name in ("dataset", "policy", "reports") for word in ("--input", f"{name}={tmp_path}/ref.json")]
    code, _, told = deepvideo("step", "evaluation-before", "--run", str(tmp_path / "nowhere"), *inputs)
    assert code == 2 and f"--run {tmp_path}/nowhere: there is no such folder" in told.replace("\n", "")
    code, _, told = deepvideo("step", "ingest", "--run", str(tmp_path / "ref.json"), "--output", str(tmp_path / "out"))
    assert code == 2 and f"--run {tmp_path}/ref.json: is a file" in told.replace("\n", "")
    code, _, told = deepvideo("step", "ingest", "--run", str(tmp_path / "run"), "--output", str(tmp_path / "ref.json"))
    assert code == 2 and f"--output {tmp_path}/ref.json: is a file" in told.replace("\n", "")


def test_ingest_alone_begins_a_run_folder_and_tells_what_it_found(
    deepvideo: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.videos import write_video

    monkeypatch.chdir(tmp_path)
    rows = []
    for index in range(12):
        write_video(tmp_path / f"{index}.mp4", width=64, height=64, fps=5, frames=10, seed=index)
        row = {"video": f"{index}.mp4", "question": "Which?", "task": "multiple_choice", "options": ["x", "y"]}
        rows.append(row | {"answer": "A", "split": "train" if index < 8 else "L1"})
    (tmp_path / "3.mp4").write_bytes(b"no video")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["--set", f"ingest.annotations={tmp_path}/rows.jsonl", "--set", f"ingest.videos={tmp_path}"]
    code, told, problem = deepvideo("step", "ingest", "--run", str(tmp_path / "run"), "--preset", "kill", *given)
    assert code == 0, problem
    said = {line.split()[0]: line.split(maxsplit=1)[1] for line in told.splitlines() if "  " in line.strip()}
    assert (said["rows"], said["samples"], said["quarantined"]) == ("12", "11", "1")
    assert said["splits"] == "L1 4, train 7" and "3.mp4: " in told
    assert str(tmp_path / "run/store") in (tmp_path / "step/dataset.json").read_text()


def test_every_step_of_the_list_is_there() -> None:
    assert all(callable(face_of(name)) for name in FACES) and set(STEPS) < set(FACES)


def test_compile_says_what_a_cluster_still_needs(deepvideo: Callable[..., Said], tmp_path: Path) -> None:
    code, told, _ = deepvideo("compile", "--preset", "kill", "--output", str(tmp_path / "pipeline.yaml"))
    assert code == 0 and (tmp_path / "pipeline.yaml").is_file()
    assert all(word in told for word in ("DEEPVIDEO_REGISTRY", "run_store", "data_annotations", "model_base"))


@pytest.mark.parametrize("name", ["pipeline", "pipeline.json", "pipeline.yaml.gz"])
def test_compile_writes_yaml_alone(deepvideo: Callable[..., Said], tmp_path: Path, name: str) -> None:
    code, _, told = deepvideo("compile", "--preset", "kill", "--output", str(tmp_path / name))
    assert code == 2 and f"--output {tmp_path}/{name}: is no name of a YAML file" in told.replace("\n", "")


def test_compile_writes_kfps_kubernetes_resources(deepvideo: Callable[..., Said], tmp_path: Path) -> None:
    """The same pipeline as the IR's; KFP's API server reads both into the same message."""
    ir, resources = tmp_path / "ir.yaml", tmp_path / "resources.yaml"
    assert deepvideo("compile", "--preset", "kill", "--output", str(ir))[0] == 0
    options = ("--preset", "kill", "--manifests", "--namespace", "team")
    code, told, _ = deepvideo("compile", *options, "--output", str(resources))
    assert code == 0 and str(resources) in told.replace("\n", "")
    pipeline, version = yaml.safe_load_all(resources.read_text())
    assert (pipeline["kind"], version["kind"]) == ("Pipeline", "PipelineVersion")
    assert {item["apiVersion"] for item in (pipeline, version)} == {"pipelines.kubeflow.org/v2beta1"}
    assert pipeline["metadata"] == {"name": "deepvideo-r1", "namespace": "team"}
    assert version["spec"]["pipelineName"] == "deepvideo-r1"
    assert re.fullmatch(r"kill-[0-9a-f]{12}", version["metadata"]["name"])
    spec, pods = yaml.safe_load_all(ir.read_text())
    for read, message in ((spec, "pipelineSpec"), (pods, "platformSpec")):
        kind = {"pipelineSpec": PipelineSpec, "platformSpec": PlatformSpec}[message]
        assert json_format.ParseDict(read, kind()) == json_format.ParseDict(version["spec"][message], kind())


def test_what_a_cluster_needs_is_only_what_it_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPVIDEO_REGISTRY", raising=False)
    own = {"ingest": {"annotations": "/data/a.jsonl", "videos": "/data/videos", "model": "/models/m"}}
    lines = still_to_set(build_settings(load_preset("laptop"), own))
    assert [line.partition(":")[0] for line in lines] == [
        "images",
        "input run_store",
        "input data_annotations",
        "input data_videos",
        "input model_base",
        "input run_tracking_uri",
    ]
    assert f"{LOCAL_REGISTRY}/..." in lines[0] and "/data/a.jsonl is a path that pods do not have" in lines[2]
    monkeypatch.setenv("DEEPVIDEO_REGISTRY", "registry.example/team")
    own = {"ingest.annotations": "s3://data/a.jsonl", "ingest.videos": "s3://data/videos"}  # the model is a hub id
    lines = still_to_set(build_settings(load_preset("paper-3b"), own))
    assert [line.partition(":")[0] for line in lines] == ["input run_store", "input run_tracking_uri"]
