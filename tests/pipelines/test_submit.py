"""`deepvideo submit` over HTTP, against a server made of KFP's own API models: every request is checked by them."""

from __future__ import annotations

import http.server
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from pipelines import cli, submit_cli
from pipelines.inputs import OVERRIDES
from pipelines.settings import build_settings, load_preset
from pipelines.triggers import client
from pipelines.triggers.parameters import moving, version_settings
from pipelines.validation.step import check
from tests.services.kfp_api import KfpApi
from tests.services.kfp_http import serve

Said = tuple[int, str, str]
Command = Callable[..., Said]
TOKEN = "the-right-token"


@pytest.fixture
def api() -> Iterator[KfpApi]:
    with serve(KfpApi(token=TOKEN)) as server:
        yield server


@pytest.fixture
def submit(api: KfpApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in this process, in a terminal of 80 columns: exit code, standard output, standard error."""
    for name in ("KUBECONFIG", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("KF_PIPELINES_TOKEN", TOKEN)
    monkeypatch.setattr(submit_cli, "console", Console(width=80))
    monkeypatch.setattr(submit_cli, "errors", Console(width=80, stderr=True))

    def command(*arguments: str, host: str = "") -> Said:
        given = ["--host", host or api.url, "--store", "s3://bucket/store", "--interval", "0.01"]
        monkeypatch.setattr(sys, "argv", ["deepvideo", "submit", "--preset", "kill", *given, *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(str(ended.value.code)), *capsys.readouterr()

    return command


def test_a_run_is_uploaded_started_and_awaited_to_its_success(submit: Command, api: KfpApi) -> None:
    code, said, told = submit("--tracking-uri", "http://mlflow:5000", "--annotations", "s3://data/{date}/a.jsonl")
    assert code == 0, told
    ((identifier, run),) = api.runs.items()
    assert run.service_account == "deepvideo-runner" and run.display_name.startswith("kill 20")
    assert run.runtime_config.parameters["run_store"] == "s3://bucket/store"
    assert run.runtime_config.parameters["run_tracking_uri"] == "http://mlflow:5000"
    assert run.runtime_config.parameters["data_annotations"] == "s3://data/[[CurrentTime.2006-01-02]]/a.jsonl"
    assert [item.display_name for item in api.experiments.values()] == ["deepvideo-r1"]
    assert f"{api.url}/#/runs/details/{identifier}" in said.replace("\n", "")
    lines = [line.split("  ")[0] for line in said.splitlines() if line.startswith(("▸", "✓"))]
    first, last = lines[:4], lines[-2:]
    assert first == ["▸ Check inputs", "✓ Check inputs", "▸ Ingest", "✓ Ingest"]
    assert last == ["▸ Close the run", "✓ Close the run"] and {"✓ Training, Round 2", "✓ Report"} <= set(lines)
    assert said.endswith("The run succeeded.\n") and max(map(len, said.replace(f"{api.url}/#/", "").splitlines())) <= 80


def test_equal_pipelines_are_one_version_and_what_a_run_may_set_makes_no_other(submit: Command, api: KfpApi) -> None:
    assert "uploaded" in submit("--no-wait")[1]
    assert "KFP has it" in submit("--no-wait", "--set", "training.max_grad_norm=0.5", "--seed", "7")[1]
    assert "uploaded" in submit("--no-wait", "--rounds", "3")[1]
    assert len(api.pipelines) == 1 and len(api.versions) == 2 and len(api.runs) == 3
    _, second, _ = api.runs.values()
    assert second.runtime_config.parameters["run_seed"] == 7
    assert second.runtime_config.parameters[OVERRIDES] == "training.max_grad_norm: 0.5\n"


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        ({"fail": "train-policy", "nth": 2}, "The run failed: Training, Round 2"),
        ({"fail": "ingest-data"}, "The run failed: Ingest"),
        (
            {"fail": "sample-round", "in_driver": True},
            "augmentation, rollout (its driver: the container never started)",
        ),
    ],
)
def test_a_failed_run_gives_a_non_zero_exit_and_names_the_task(
    submit: Command, api: KfpApi, fail: dict[str, object], words: str
) -> None:
    api.fail = fail
    code, said, told = submit()
    assert code == 1 and words in told and "/#/runs/details/" in told
    assert told.count(";") == 0  # no other task is blamed
    assert "✓ Close the run" in said and "succeeded" not in said


def test_shards_are_told_as_parts_of_their_step_and_a_failed_one_ends_the_run(submit: Command, api: KfpApi) -> None:
    shards = ("--set", "pipeline.fuse_sampling=false", "--set", "pipeline.shards=2")
    code, said, _ = submit(*shards)
    lines = [line.split("  ")[0] for line in said.splitlines()]
    assert code == 0 and lines.count("✓ Evaluation before, shard") == 2 and "✓ Evaluation before" in lines
    assert all(lines.count(f"✓ Rollout, shard, Round {index}") == 2 for index in (1, 2))
    assert not any("shards" in line for line in lines)  # the loop around them is no task
    api.fail = {"fail": "rollout-shard", "nth": 3}
    code, _, told = submit(*shards)
    assert code == 1 and "The run failed: Rollout, shard, Round 2" in told
    api.fail = {"fail": "for-loop-2", "in_driver": True}
    code, _, told = submit(*shards)
    assert code == 1 and "2 shards (its driver: the container never started)" in told


def test_the_api_may_be_away_while_a_run_is_awaited(submit: Command, api: KfpApi) -> None:
    api.busy = 3
    assert submit()[0] == 0 and api.busy == 0


def test_a_token_from_a_file_is_used_and_a_wrong_one_is_refused_at_once(
    submit: Command, api: KfpApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KF_PIPELINES_TOKEN", "")
    (tmp_path / "token").write_text(TOKEN)
    assert submit("--no-wait", "--token-file", str(tmp_path / "token"))[0] == 0
    (tmp_path / "token").write_text("stale")
    for arguments in (["--token-file", str(tmp_path / "token")], ["--token", "wrong"], []):
        code, _, told = submit(*arguments)
        assert code == 2 and "refuses the token (401" in told and "--token-file" in told
    assert "there is no such file" in submit("--token-file", "absent")[2]
    assert len(api.runs) == 1


def test_a_host_that_is_not_there_or_is_not_kfp_is_told_with_the_remedy(
    submit: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, told = submit(host="http://127.0.0.1:9")
    assert code == 2 and "http://127.0.0.1:9 cannot be reached" in told and "give --host" in told

    with monkeypatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as silent:
        patch.setattr(client, "_TIMEOUT", (1, 1))
        code, _, told = submit(host=f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert code == 2 and "cannot be reached" in told and "timed out" in told

    class LogIn(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html>Log in to Your Account</html>")

        def log_message(self, *_: object) -> None:
            pass

    page = http.server.HTTPServer(("127.0.0.1", 0), LogIn)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    code, _, told = submit(host=f"http://127.0.0.1:{page.server_address[1]}")
    page.shutdown()
    assert code == 2 and "answers with text/html, not as KFP's API does" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--store", ""], "--store: is empty"),
        (["--annotations", "s3://d/{date:%B}"], "{date:%B}: made of %Y, %m, %d"),
        (["--set", "training.beta=-1"], "training.beta"),
        (["--preset", "desktop"], "'desktop'"),
        (["--annotations", "my/q.jsonl"], "ingest.annotations: my/q.jsonl is a path that pods do not have; give s3://"),
        (["--annotations", "gs://data/q.jsonl"], "ingest.annotations: gs://data/q.jsonl"),
        (["--videos", "/data/videos"], "ingest.videos: /data/videos is a path"),
        (["--model", "./my-model"], "ingest.model: ./my-model is a path"),
        (["--model", "Qwen/Qwen2.5-VL-3B-Instruct"], "the commit of a hub id as ingest.model_revision"),
        (["--store", "runs/store"], "--store: runs/store is a path"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_sent(
    submit: Command, api: KfpApi, arguments: list[str], words: str
) -> None:
    code, _, told = submit(*arguments)
    assert code == 2 and words in told and not api.calls


def test_what_may_still_work_is_only_noted(submit: Command, api: KfpApi) -> None:
    """The project's own data and model, images that were loaded into a cluster, no tracking."""
    code, said, told = submit("--no-wait")
    assert code == 0, told
    assert all(word in said for word in ("images:", "moving-shapes", "'tiny'", "run_tracking_uri")) and api.runs


def test_version_and_parameters_together_are_the_settings_that_were_asked_for() -> None:
    """Whatever is set: the pipeline's own first task makes the same settings of them again."""
    from pipelines.options import RunInputs
    from pipelines.triggers.parameters import run_parameters

    changes = [
        "training.objective=dpo", "warmup.num_train_epochs=2", "rewards.reward_weights={format: 0.5}", "pipeline.rounds=3",
        "generation_pods.cpu='9'", "evaluation.levels=L1", "promotion.alias=best", "store.patience=7",
    ]  # fmt: skip
    options = RunInputs(preset="laptop", assignments=changes, store="s3://b/p")
    wanted = options.settings()
    compiled = version_settings("laptop", wanted)
    inputs = run_parameters(options, wanted, compiled)
    settings, _ = check(compiled.model_dump_json(), "id", inputs)
    assert settings.model_dump() == wanted.model_dump()
    assert compiled.generation_pods.cpu == wanted.generation_pods.cpu == "9"
    assert compiled != wanted != build_settings(load_preset("laptop"))


def test_dates_become_macros_of_kfp() -> None:
    assert moving("s3://d/{date}/a") == "s3://d/[[CurrentTime.2006-01-02]]/a"
    assert moving("s3://d/{date:%Y/%m/%d-%H%M}") == "s3://d/[[CurrentTime.2006/01/02-1504]]"
    assert moving("s3://d/{other}") == "s3://d/{other}"
