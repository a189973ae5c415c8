"""What a run leaves in a real MLflow on SQLite, also when it is repeated, killed, or when the store fails."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.shared.context import StepContext
from components.shared.ledger import Outputs
from components.shared.schemas import ArtifactRef
from components.shared.store import open_store
from components.shared.tracking import (
    TrackingWarning,
    finish_parent,
    log_dataset,
    log_params,
    log_series,
    parent_run,
    start_parent,
    step_run,
    track_step,
)
from components.shared.tracking.client import open_client
from components.shared.tracking.names import flat_params, legal_name


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db"


@pytest.fixture
def context(uri: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> StepContext:
    """A context whose run has the test's name; Kubeflow hands nothing down."""
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return StepContext(store=str(tmp_path / "store"), tracking_uri=uri, run_name=request.node.name)


@pytest.fixture
def client(uri: str) -> MlflowClient:
    return open_client(uri)


def history(client: MlflowClient, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client.get_metric_history(run_id, name)]


def test_a_rerun_of_the_same_name_adopts_the_run_and_sets_it_running(
    context: StepContext, client: MlflowClient
) -> None:
    first = start_parent(context, {"training": {"beta": 0.1}})
    finish_parent(context, "FAILED")
    assert client.get_run(first).info.status == "FAILED"
    assert start_parent(context, {"training": {"beta": 0.1}}) == first
    run = client.get_run(first)
    assert run.info.status == "RUNNING"
    assert run.info.run_name == context.run_name
    assert run.data.params == {"training.beta": "0.1"}


def test_runs_of_other_names_stay_apart_also_with_quotes_in_them(context: StepContext) -> None:
    names = [context.run_name, "the team's run", 'a "quoted" run']
    ids = {start_parent(context.model_copy(update={"run_name": name}), {}) for name in names}
    assert len(ids) == 3
    assert start_parent(context.model_copy(update={"run_name": names[1]}), {}) in ids


def test_each_step_and_round_has_one_nested_run(context: StepContext, client: MlflowClient) -> None:
    first = context.model_copy(update={"round": 1})
    second = context.model_copy(update={"round": 2})
    ids = []
    for each in (first, second, first):
        with step_run(each, "rollout") as run:
            ids.append(run.run_id)
    assert ids[0] == ids[2] != ids[1]
    nested = client.get_run(ids[1])
    assert nested.data.tags["mlflow.parentRunId"] == parent_run(context).run_id
    assert nested.info.run_name == "rollout, round 2"
    assert nested.info.status == "FINISHED"


def test_a_step_that_raises_leaves_a_failed_run_and_the_error(context: StepContext, client: MlflowClient) -> None:
    with pytest.raises(ZeroDivisionError), step_run(context, "training") as run:
        1 / 0  # noqa: B018
    assert client.get_run(run.run_id).info.status == "FAILED"


def test_a_series_that_is_repeated_is_logged_once(context: StepContext, client: MlflowClient) -> None:
    rows = [{"step": step, "train/loss": 1.0 / (step + 1), "kl": float(step)} for step in range(5)]
    with step_run(context, "training") as run:
        log_series(run, rows[:3])
        log_series(run, rows[1:])
        log_series(run, rows)
    assert history(client, run.run_id, "train/loss") == [(step, 1.0 / (step + 1)) for step in range(5)]
    assert len(history(client, run.run_id, "kl")) == 5


def test_a_series_longer_than_mlflows_batch_arrives_whole(context: StepContext, client: MlflowClient) -> None:
    with step_run(context, "training") as run:
        log_series(run, [{"step": step, "loss": 1.0, "kl": 2.0} for step in range(700)])
    assert len(history(client, run.run_id, "loss")) == len(history(client, run.run_id, "kl")) == 700


def test_only_finite_numbers_are_logged_and_what_is_not_finite_is_named(
    context: StepContext, client: MlflowClient
) -> None:
    row = {"step": 0, "loss": float("nan"), "note": "text", "clip_ratio/high@k": 0.5, "promoted": True, "low": None}
    with pytest.warns(TrackingWarning, match=r"\['loss'\]"), step_run(context, "training") as run:
        log_series(run, [row])
    assert client.get_run(run.run_id).data.metrics == {"clip_ratio/high_at_k": 0.5, "promoted": 1.0}
    assert len(run.warnings) == 1


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        ("rewards/accuracy/mean", "rewards/accuracy/mean"),
        ("sampling/sampling_logp_difference/mean", "sampling/sampling_logp_difference/mean"),
        ("pass@8", "pass_at_8"),
        ("share in %", "share in _"),
        ("/a//b/", "a/b"),
        ("a/../b", "a/_/b"),
    ],
)
def test_names_become_legal_and_trls_stay(name: str, legal: str) -> None:
    assert legal_name(name) == legal


def test_names_that_were_made_legal_are_taken(context: StepContext, client: MlflowClient) -> None:
    names = ["pass@8", "share in %", "/a//b/", "a/../c", "x" * 300, "..", "Größe: 5"]
    run = parent_run(context)
    log_series(run, [{"step": 0} | dict.fromkeys(names, 1.0)])
    assert run.warnings == []
    assert len(client.get_run(run.run_id).data.metrics) == len(names)


def test_settings_are_flat_cut_at_mlflows_length_and_more_than_a_batch(
    context: StepContext, client: MlflowClient
) -> None:
    settings = {"rewards": {"reward_funcs": ["format", "accuracy"]}, "long": "x" * 7000}
    settings |= {f"field_{index}": index for index in range(150)}
    run = parent_run(context)
    log_params(run, settings)
    logged = client.get_run(run.run_id).data.params
    assert logged == flat_params(settings)
    assert logged["rewards.reward_funcs"] == '["format", "accuracy"]'
    assert len(logged["long"]) == 6000 and logged["long"].endswith("... (cut)")


def test_settings_that_differ_in_a_rerun_are_named(context: StepContext, client: MlflowClient) -> None:
    run = parent_run(context)
    log_params(run, {"beta": 0.1})
    with pytest.warns(TrackingWarning, match=r"\['beta'\]"):
        log_params(run, {"beta": 0.2, "seed": 3})
    assert client.get_run(run.run_id).data.params == {"beta": "0.1", "seed": "3"}


def test_a_dataset_is_an_input_with_a_digest_that_mlflow_takes(context: StepContext, client: MlflowClient) -> None:
    ref = ArtifactRef(kind="dataset", uri="s3://bucket/dataset/" + "a" * 64, digest="a" * 64, size=10)
    run = parent_run(context)
    log_dataset(run, ref)
    log_dataset(run, ref)
    (found,) = client.get_run(run.run_id).inputs.dataset_inputs
    assert found.dataset.digest == "a" * 36
    assert ref.uri in found.dataset.source


def test_a_step_leaves_its_figures_series_and_uris_and_the_parent_the_headlines(
    context: StepContext, client: MlflowClient, tmp_path: Path
) -> None:
    page = tmp_path / "page"
    page.mkdir()
    (page / "report.html").write_text("<p>report</p>")
    (page / "figures").mkdir()
    (page / "figures" / "reward.svg").write_text("<svg/>")
    report = open_store(context.store).put(page, "report")
    results = {"reward": 1.2, "label": "x", "series": [{"step": 7, "loss": 0.9}]}
    outputs = Outputs(artifacts={"report": report}, results=results, seconds=2.0)
    in_round = context.model_copy(update={"round": 3})
    assert track_step(in_round, "training", outputs) == []
    assert track_step(in_round, "training", outputs) == []
    parent = client.get_run(parent_run(context).run_id)
    assert history(client, parent.info.run_id, "training/reward") == [(3, 1.2)]
    assert [item.path for item in client.list_artifacts(parent.info.run_id, "report")] == [
        "report/figures",
        "report/report.html",
    ]
    assert len(client.list_artifacts(parent.info.run_id, "report/figures")) == 1
    with step_run(in_round, "training") as run:
        assert history(client, run.run_id, "reward") == [(3, 1.2)]
        assert history(client, run.run_id, "loss") == [(7, 0.9)]
        assert client.get_run(run.run_id).data.tags["deepvideo.artifact.report"] == report.uri


def test_before_and_after_are_one_curve_and_mlflows_compare_page_opens_with_it(
    context: StepContext, client: MlflowClient
) -> None:
    def outputs(**results: float) -> Outputs:
        return Outputs(results={name.replace("__", "/"): value for name, value in results.items()})

    track_step(context, "ingest", outputs(rows=240.0))
    track_step(context, "evaluation before", outputs(questions=9.0, eval__L1__accuracy=0.25))
    track_step(context.model_copy(update={"round": 1}), "training", outputs(reward=1.2))
    for after_round, accuracy in ((1, 0.5), (2, 0.75)):  # a finished run that was continued by one more round
        track_step(context, "evaluation after", outputs(questions=9.0, eval__L1__accuracy=accuracy), after_round)
    parent = client.get_run(parent_run(context).run_id)
    # the page takes the first of the metrics as the store returns them (ParallelCoordinatesPlotPanel: slice(0, 1))
    assert next(iter(parent.data.metrics)) == "eval/L1/accuracy"
    assert history(client, parent.info.run_id, "eval/L1/accuracy") == [(0, 0.25), (1, 0.5), (2, 0.75)]
    assert not {name for name in parent.data.metrics if name.endswith(("rows", "questions"))}
    with step_run(context, "ingest") as run:
        assert history(client, run.run_id, "rows") == [(0, 240.0)]


def test_kubeflows_runs_are_used_and_their_status_is_left_alone(
    context: StepContext, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = client.create_experiment("KFP-Default")
    parent = client.create_run(experiment).info.run_id
    task = client.create_run(experiment, tags={"mlflow.parentRunId": parent}).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", task)
    assert start_parent(context, {"beta": 0.1}) == parent
    with step_run(context, "difficulty") as first:
        pass
    with step_run(context, "rollout") as second:  # another step in the same task
        pass
    finish_parent(context)
    assert first.run_id == task
    assert second.run_id != task
    assert client.get_run(second.run_id).data.tags["mlflow.parentRunId"] == parent
    assert {client.get_run(run_id).info.status for run_id in (parent, task)} == {"RUNNING"}


def test_without_a_uri_nothing_is_tracked_and_mlflow_is_not_imported(tmp_path: Path) -> None:
    code = f"""
        import sys
        from components.shared.context import StepContext
        from components.shared.ledger import Outputs
        from components.shared.tracking import finish_parent, start_parent, track_step
        context = StepContext(store={str(tmp_path)!r})
        assert start_parent(context, {{"beta": 1}}) == ""
        assert track_step(context, "training", Outputs(results={{"reward": 1.0}})) == []
        finish_parent(context)
        assert "mlflow" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_a_store_that_fails_costs_a_warning_and_not_the_step(context: StepContext, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    broken = context.model_copy(update={"tracking_uri": f"sqlite:///{tmp_path}/file/mlflow.db"})
    with pytest.warns(TrackingWarning, match="is not tracked"):
        assert len(track_step(broken, "training", Outputs(results={"reward": 1.0}))) == 1


def test_a_store_that_breaks_in_the_middle_costs_what_follows(context: StepContext, client: MlflowClient) -> None:
    with pytest.warns(TrackingWarning, match="is lost"), step_run(context, "training") as run:
        log_series(run, [{"step": 0, "loss": 1.0}])
        client.delete_run(run.run_id)  # MLflow refuses to write to it
        log_series(run, [{"step": 1, "loss": 0.5}])
        log_series(run, [{"step": 2, "loss": 0.2}])
    assert len(run.warnings) == 1


def test_processes_that_start_at_once_share_one_new_database_and_print_nothing(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/new/folder/mlflow.db"
    code = f"""
        import sys
        from components.shared.context import StepContext
        from components.shared.tracking import finish_parent, start_parent
        context = StepContext(store="unused", tracking_uri={uri!r}, run_name=sys.argv[1])
        assert start_parent(context, {{"beta": 1}})
        finish_parent(context)
    """
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), f"run {number}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(2)
    ]
    assert [(worker.communicate()[0], worker.returncode) for worker in workers] == [("", 0), ("", 0)]
    client = open_client(uri)
    (experiment,) = [found for found in client.search_experiments() if found.name == "deepvideo"]
    assert len(client.search_runs([experiment.experiment_id])) == 2
    assert {path.name for path in (tmp_path / "new/folder").iterdir()} == {"mlflow.db", "mlflow.db.lock"}
