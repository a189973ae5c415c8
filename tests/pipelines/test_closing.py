"""The exit handler: the run is closed as it ended, and who wants to know is told, over real HTTP and SMTP."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from components.shared.context import StepContext
from components.shared.face import StepFace
from components.shared.ledger import Outputs
from components.shared.runs import begin_run, end_run, read_run
from components.shared.tracking import find_parent, start_parent, track_step
from components.shared.tracking.client import open_client
from pipelines.closing.notice import SMTP_PASSWORD, SMTP_USERNAME, WEBHOOK_URL, NotificationError, notify
from pipelines.closing.settings import NotificationSettings
from pipelines.closing.step import close
from pipelines.dag import compile_pipeline
from pipelines.settings import SettingsError, build_settings, load_preset
from tests.services.http_server import HttpServer, http_server
from tests.services.smtp_server import PASSWORD, USER, smtp_server

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    for name in (WEBHOOK_URL, SMTP_USERNAME, SMTP_PASSWORD, "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def context(tmp_path: Path) -> StepContext:
    """A run that has begun."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    context = StepContext(store=str(tmp_path / "store"), tracking_uri=uri, run_name="run-7")
    begin_run(context.open_store(), context.run_name)
    start_parent(context, {})
    return context


def closed(context: StepContext, state: str, error: str = "", **settings: object) -> object:
    notification = NotificationSettings.model_validate(settings).model_dump_json()
    place = (context.store, context.tracking_uri, context.experiment)
    return close(state, error, "kfp-id", context.run_name, *place, notification)


def promote(context: StepContext, promoted: bool) -> None:
    ledger = context.open_ledger()
    key = ledger.key("promotion", {}, {}, 0)
    ledger.finish(key, Outputs(results={"promoted": promoted, "reason": "it lost 3 points on L2"}))
    end_run(context.open_store(), context.run_name, "FINISHED")


def status(context: StepContext) -> str:
    client = open_client(context.tracking_uri)
    return str(client.get_run(find_parent(client, context)).info.status)


def test_a_failure_is_told_with_its_step_and_the_run_is_closed(
    context: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    face = StepFace("training", context.model_dump_json(), "{}", 3)  # a step that never gets to its end
    with http_server(lambda request: (200, {})) as server:
        monkeypatch.setenv(WEBHOOK_URL, f"{server.url}/hooks/token-1")
        closed(context, "FAILED", ui_url="https://kubeflow.example/pipeline/")
    face._alive.stop()
    (request,) = server.requests
    told = request.content
    assert (request.method, request.path) == ("POST", "/hooks/token-1")
    assert (told["run"], told["run_id"], told["status"]) == ("run-7", "kfp-id", "FAILED")
    assert told["step"] == "training, round 3" and "run run-7 failed in training, round 3" in told["text"]
    assert "https://kubeflow.example/pipeline/#/runs/details/kfp-id" in told["text"]
    record = read_run(context.open_store(), "run-7")
    assert record is not None and record.status == "FAILED" and record.ended
    assert status(context) == "FAILED"


def test_no_promotion_is_told_by_mail_with_its_reason(context: StepContext) -> None:
    promote(context, False)
    with smtp_server() as server:
        mail = {"smtp_host": "127.0.0.1", "smtp_port": server.port, "smtp_security": "none"}
        closed(
            context, "SUCCEEDED", **mail, mail_from="deepvideo@example.org", mail_to=["a@example.org", "b@example.org"]
        )
    (sent,) = server.mails
    assert sent["Subject"] == "DeepVideo-R1: run run-7 ended without a promotion"
    assert "it lost 3 points on L2" in str(sent.get_payload())
    assert server.recipients == ["a@example.org", "b@example.org"]
    assert status(context) == "FINISHED"


@pytest.mark.parametrize(("state", "promoted", "after"), [("COMPLETE", True, "FINISHED"), ("CANCELED", None, "KILLED")])
def test_a_promotion_and_a_run_that_someone_ended_are_not_told(
    context: StepContext, monkeypatch: pytest.MonkeyPatch, state: str, promoted: bool | None, after: str
) -> None:
    if promoted is not None:
        promote(context, promoted)
    with http_server(lambda request: (200, {})) as server:
        monkeypatch.setenv(WEBHOOK_URL, server.url)
        closed(context, state)
    assert server.requests == [] and status(context) == after


@pytest.mark.parametrize(("ended", "after"), [(True, "FINISHED"), (False, "FAILED")])
def test_where_kfp_does_not_say_how_the_tasks_ended_the_store_does(
    context: StepContext, ended: bool, after: str
) -> None:
    if ended:
        promote(context, True)
    closed(context, "RUNNING")
    assert status(context) == after


def test_a_store_that_is_gone_does_not_silence_the_notice(
    context: StepContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    with http_server(lambda request: (200, {})) as server:
        monkeypatch.setenv(WEBHOOK_URL, server.url)
        closed(context.model_copy(update={"store": "gs://bucket"}), "FAILED", "out of memory")
    (request,) = server.requests
    assert "out of memory" in request.content["text"] and "'gs' is not supported" in request.content["text"]


def test_what_still_waits_for_mlflow_is_sent_at_the_end(context: StepContext, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").rename(tmp_path / "away.db")
    (tmp_path / "mlflow.db").mkdir()  # no database: MLflow is down
    with pytest.warns(UserWarning, match="to be sent later"):
        track_step(context.model_copy(update={"round": 1}), "training", Outputs(results={"reward": 0.5}))
    (tmp_path / "mlflow.db").rmdir()
    (tmp_path / "away.db").rename(tmp_path / "mlflow.db")
    closed(context, "FAILED")
    client = open_client(context.tracking_uri)
    (told,) = client.get_metric_history(find_parent(client, context), "training/reward")
    assert (told.step, told.value) == (1, 0.5) and status(context) == "FAILED"


def test_a_webhook_that_is_busy_is_tried_again_and_one_that_refuses_is_named_without_its_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server: HttpServer
    with http_server(lambda request: (503 if len(server.requests) < 2 else 200, {})) as server:
        monkeypatch.setenv(WEBHOOK_URL, f"{server.url}/token-1")
        assert notify("s", "b", {}, NotificationSettings()) == ["webhook"]
    assert len(server.requests) == 2
    with http_server(lambda request: (404, {})) as server:
        monkeypatch.setenv(WEBHOOK_URL, f"{server.url}/token-1")
        with pytest.raises(NotificationError, match=f"webhook at 127.0.0.1: .*404.*check {WEBHOOK_URL}") as caught:
            notify("s", "b", {}, NotificationSettings())
    assert "token-1" not in str(caught.value) and len(server.requests) == 1


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_is_encrypted_authenticated_and_tried_again(
    security: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, ca = tmp_path / "key.pem", tmp_path / "ca.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    subprocess.run([*made, "-keyout", str(key), "-out", str(ca)], check=True, capture_output=True)
    (tmp_path / "both.pem").write_bytes(key.read_bytes() + ca.read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    monkeypatch.setenv(SMTP_USERNAME, USER)
    monkeypatch.setenv(SMTP_PASSWORD, PASSWORD)
    with smtp_server(tmp_path / "both.pem", implicit_tls=security == "tls", busy=1) as server:
        ends = {"mail_from": "a@example.org", "mail_to": ("b@example.org",)}
        settings = NotificationSettings(smtp_host="localhost", smtp_port=server.port, smtp_security=security, **ends)
        assert notify("subject", "body", {}, settings) == ["mail"]
        assert server.encrypted == [True] and server.logins == [USER, USER] and len(server.mails) == 1
        monkeypatch.setenv(SMTP_PASSWORD, "wrong")
        with pytest.raises(NotificationError, match=f"535.*check notification.* and {SMTP_USERNAME}"):
            notify("subject", "body", {}, settings)


def test_the_secrets_stay_out_of_the_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WEBHOOK_URL, "https://hooks.example/token-1")
    monkeypatch.setenv(SMTP_PASSWORD, "mail-secret-1")
    text = compile_pipeline(build_settings(load_preset("paper-3b")), tmp_path / "p.yaml").read_text()
    assert "token-1" not in text and "mail-secret-1" not in text and "deepvideo-notification" in text


def test_a_mail_server_without_sender_or_recipients_is_refused() -> None:
    with pytest.raises(SettingsError, match="smtp_host: needs notification.mail_from and notification.mail_to"):
        build_settings({"notification.smtp_host": "mail.example.org"})


_PIPELINE = """
import sys
from kfp import dsl, local
from pipelines.closing.component import close_run
from pipelines.closing.settings import NotificationSettings

@dsl.component(base_image="unused", install_kfp_package=False)
def fails():
    raise RuntimeError("on purpose")

@dsl.pipeline
def pipeline():
    closing = close_run(
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER, run_name="run-7", run_store=sys.argv[1], run_tracking_uri=sys.argv[2],
        run_experiment="deepvideo", notification=NotificationSettings().model_dump_json(),
    )
    with dsl.ExitHandler(closing, name="Run"):
        fails()

local.init(local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[3], raise_on_error=False)
pipeline()
"""


def test_kfp_runs_it_after_a_task_that_failed(context: StepContext, tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(textwrap.dedent(_PIPELINE))
    with http_server(lambda request: (200, {})) as server:
        environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
        environment |= {"NO_PROXY": "127.0.0.1", WEBHOOK_URL: server.url, "OMP_NUM_THREADS": "1"}
        where = [context.store, context.tracking_uri, str(tmp_path / "root")]
        subprocess.run(
            [sys.executable, str(tmp_path / "pipeline.py"), *where], env=environment, check=True, cwd=tmp_path
        )
    (request,) = server.requests
    assert (request.content["status"], request.content["run"]) == ("FAILED", "run-7")
    assert status(context) == "FAILED"
