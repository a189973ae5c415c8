"""`deepvideo schedule` over HTTP, against a server made of KFP's own API models: every request is checked by them."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from pipelines import cli, schedule_cli, submit_cli
from tests.services.kfp_api import KfpApi
from tests.services.kfp_http import serve
from tests.services.kubeconfig import lead_to

Said = tuple[int, str, str]
Command = Callable[..., Said]
RUN = ("--preset", "kill", "--store", "s3://bucket/store", "--tracking-uri", "http://mlflow:5000")


@pytest.fixture
def api() -> Iterator[KfpApi]:
    with serve(KfpApi(token="t", multi_user=True)) as server:
        yield server


@pytest.fixture
def schedule(
    api: KfpApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """The command in this process, in a terminal of 80 columns: exit code, standard output, standard error."""
    for name in ("KUBECONFIG", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("KF_PIPELINES_TOKEN", "t")
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", api.url)
    for module in (schedule_cli, submit_cli):
        monkeypatch.setattr(module, "console", Console(width=80))

    def command(verb: str, *arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["deepvideo", "schedule", verb, *arguments, "--namespace", "team"])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(str(ended.value.code)), *capsys.readouterr()

    return command


def test_a_schedule_is_made_listed_paused_resumed_replaced_and_deleted(schedule: Command, api: KfpApi) -> None:
    data = ("--annotations", "s3://data/{date:%Y/%m/%d}/a.jsonl")
    code, said, told = schedule("create", "weekly", "--cron", "0 3 * * mon", *RUN, *data, "--from-champion")
    assert code == 0, told
    ((first, job),) = api.recurring.items()
    assert (job.max_concurrency, job.no_catchup, job.mode) == ("1", True, "ENABLE")
    assert job.trigger.cron_schedule.cron == "0 0 3 * * mon" and job.trigger.periodic_schedule is None
    assert job.service_account == "deepvideo-runner" and api.experiments[job.experiment_id].namespace == "team"
    assert f"{api.url}/#/recurringrun/details/{first}" in said

    run = api.fire(first, datetime.datetime(2026, 12, 7, 3, 0, tzinfo=datetime.UTC))
    given = run.runtime_config.parameters
    assert given["data_annotations"] == "s3://data/2026/12/07/a.jsonl"
    assert given["model_base"] == "models:/deepvideo-policy@champion else tiny"
    assert given["run_name"] == ""  # each run has its own: Kubeflow's id

    assert [words in schedule("list")[1] for words in ("weekly", "on", "0 0 3 * * mon", "kill-")] == [True] * 4
    again = schedule("create", "weekly", "--cron", "0 4 * * *", *RUN)
    assert again[0] == 2 and "there is one; `deepvideo schedule replace`" in again[2]
    unknown = schedule("replace", "daily", "--cron", "0 4 * * *", *RUN, "--rounds", "3")
    assert unknown[0] == 2 and "there is none; there are weekly" in unknown[2]
    schedule("create", "weekly", "--cron", "0 4 * * *", *RUN, "--rounds", "4")
    assert len(api.versions) == 1  # the name is looked at before anything is uploaded

    assert schedule("pause", "weekly")[0] == 0 and api.recurring[first].mode == "DISABLE"
    assert "paused" in schedule("list")[1]
    assert schedule("resume", "weekly")[0] == 0 and api.recurring[first].mode == "ENABLE"

    assert schedule("replace", "weekly", "--cron", "0 5 * * *", *RUN, "--rounds", "3")[0] == 0
    ((second, job),) = api.recurring.items()
    assert second != first and job.mode == "ENABLE" and job.trigger.cron_schedule.cron == "0 0 5 * * *"
    schedule("pause", "weekly")
    assert "replaced, paused" in schedule("replace", "weekly", "--cron", "0 6 * * *", *RUN)[1]
    order = [call for call in api.calls if call[1].startswith("/recurringruns") and call[0] != "GET"][-3:]
    assert [call[0] for call in order] == ["POST", "POST", "DELETE"]  # paused; made, and only then the old one deleted

    assert schedule("delete", "weekly")[0] == 0 and not api.recurring
    assert "There are no schedules" in schedule("list")[1]


def test_another_time_zone_is_written_for_the_schedulers(schedule: Command, api: KfpApi) -> None:
    zone = ("--time-zone", "Asia/Tokyo")
    assert schedule("create", "tokyo", "--cron", "0 3 * * mon", *RUN, *zone)[0] == 0
    (job,) = api.recurring.values()
    assert job.trigger.cron_schedule.cron == "0 0 18 * * 0"
    assert "0 3 * * mon Asia/Tokyo" in job.description
    _, said, _ = schedule("create", "berlin", "--cron", "0 3 * * mon", *RUN, "--time-zone", "Europe/Berlin")
    assert "an hour off" in said and "CRON_SCHEDULE_TIMEZONE" in said
    same = ("--time-zone", "Europe/Berlin", "--scheduler-time-zone", "Europe/Berlin")
    schedule("create", "there", "--cron", "0 3 * * mon", *RUN, *same)
    crons = {job.display_name: job.trigger.cron_schedule.cron for job in api.recurring.values()}
    assert crons["there"] == "0 0 3 * * mon"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "a", "--cron", "0 25 * * *", *RUN), "hour '25': 0 to 23"),
        (("create", "a", "--cron", "0 3 * * *", *RUN, "--time-zone", "Mars/Crater"), "there is no time zone"),
        (("create", "a", "--cron", "0 3 * * *", "--preset", "kill"), "--store: is empty"),
        (("create", "a", "--cron", "0 3 * * *", *RUN, "--model", "models:/x"), "models:/NAME@ALIAS else MODEL"),
        (
            ("create", "a", "--cron", "0 3 * * *", *RUN, "--annotations", "s3://d/{dat}/q.jsonl"),
            "ingest.annotations: s3://d/{dat}/q.jsonl: {dat} is unknown; {date} and, made of %Y, %m, %d, %H, %M,"
            " {date:%Y/%m/%d} are known",
        ),
        (("create", "a", "--cron", "0 3 * * *", *RUN, "--videos", "s3://d/{date}/{time"), "{time is unknown"),
        (("create", "a", "--cron", "0 3 * * *", *RUN, "--annotations", "my/q.jsonl"), "a path that pods do not have"),
        (("pause", "absent"), "there is none; there are no recurring runs at all"),
        (("replace", "absent", "--cron", "0 3 * * *", *RUN), "there is none"),
        (("list", "--token", "wrong"), "refuses the token (401"),
        (("list", "--ca", "/nope"), "--ca /nope: there is no such file"),
        (("create", "a", "--cron", "0 3 31 2 *", *RUN), "is never due"),
        (("list", "--host", "http://127.0.0.1:9"), "cannot be reached"),
    ],
)
def test_what_cannot_be_done_is_told_with_the_remedy(
    schedule: Command, api: KfpApi, arguments: tuple[str, ...], words: str
) -> None:
    code, _, told = schedule(*arguments)
    assert code == 2 and words in told and not api.recurring and not api.versions


def test_without_a_host_a_context_that_is_not_there_is_named(
    schedule: Command, api: KfpApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT")
    assert "--token: with one, kfp's client looks at no pod or kubeconfig; give --host" in schedule("list")[2]
    monkeypatch.delenv("KF_PIPELINES_TOKEN")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    path = lead_to(api.url, tmp_path, monkeypatch)
    code, _, told = schedule("list", "--kube-context", "nope")
    assert code == 2 and f"--kube-context nope: there is no such context; the kubeconfig {path} has test" in told
    assert "cannot be reached" not in schedule("list")[2]  # the current context leads to the server
    path.unlink()
    code, _, told = schedule("list")
    assert code == 2 and f"no --host is given, and there is no kubeconfig {path}; give --host" in told
