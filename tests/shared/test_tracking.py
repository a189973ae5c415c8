"""What a run leaves in a real MLflow on SQLite, also when it is repeated, killed, or when the store fails."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.shared.context import StepContext
from components.shared.ledger import Outputs
from components.shared.runs import begin_run
from components.shared.schemas import ArtifactRef
from components.shared.store import open_store
from components.shared.tracking import (
    TrackingError,
    TrackingWarning,
    find_parent,
    find_run,
    finish_parent,
    start_parent,
    track_step,
    waiting,
)
from components.shared.tracking.client import open_client
from components.shared.tracking.names import flat_params, legal_name
from components.shared.tracking.system import SystemMetrics
from tests.waiting import wait_for


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


def series(context: StepContext, rows: list[dict[str, object]], step: str = "training") -> list[str]:
    return track_step(context, step, Outputs(results={"rows": rows}))


def test_each_step_and_round_has_one_nested_run(context: StepContext, client: MlflowClient) -> None:
    ids = []
    for each in (1, 2, 1):
        in_round = context.model_copy(update={"round": each})
        assert track_step(in_round, "rollout", Outputs(seconds=100.0)) == []
        ids.append(find_run(client, in_round, "rollout", each)[0])
    assert ids[0] == ids[2] != ids[1]
    nested = client.get_run(ids[1])
    assert nested.data.tags["mlflow.parentRunId"] == find_parent(client, context)
    assert nested.info.run_name == "rollout, round 2"
    assert nested.info.status == "FINISHED"
    assert nested.info.end_time - nested.info.start_time == 100_000  # ms
    assert len(client.search_runs([nested.info.experiment_id], f"tags.`deepvideo.run` = '{context.run_name}'")) == 3


def test_a_step_that_was_killed_ends_with_its_run(context: StepContext, client: MlflowClient) -> None:
    killed, _ = find_run(client, context, "training", 1)
    track_step(context, "ingest", Outputs())
    finish_parent(context, "FAILED")
    assert client.get_run(killed).info.status == client.get_run(find_parent(client, context)).info.status == "FAILED"
    assert client.get_run(find_run(client, context, "ingest")[0]).info.status == "FINISHED"


def test_a_series_that_is_repeated_is_logged_once(context: StepContext, client: MlflowClient) -> None:
    rows: list[dict[str, object]] = [
        {"step": step, "train/loss": 1.0 / (step + 1), "kl": float(step)} for step in range(5)
    ]
    for part in (rows[:3], rows[1:], rows):
        series(context, part)
    nested, parent = find_run(client, context, "training")[0], find_parent(client, context)
    expected = [(step, 1.0 / (step + 1)) for step in range(5)]
    assert history(client, nested, "train/loss") == history(client, parent, "training/steps/train/loss") == expected
    assert len(history(client, nested, "kl")) == 5


def test_a_series_longer_than_mlflows_batch_arrives_whole(context: StepContext, client: MlflowClient) -> None:
    series(context, [{"step": step, "loss": 1.0, "kl": 2.0} for step in range(700)])
    run_id, _ = find_run(client, context, "training")
    assert len(history(client, run_id, "loss")) == len(history(client, run_id, "kl")) == 700


def test_only_finite_numbers_are_logged_and_what_is_not_finite_is_named(
    context: StepContext, client: MlflowClient
) -> None:
    row = {"step": 0, "loss": float("nan"), "note": "text", "clip_ratio/high@k": 0.5, "promoted": True, "low": None}
    (told,) = series(context, [row])
    assert "['loss']" in told
    logged = client.get_run(find_run(client, context, "training")[0]).data.metrics
    timings = {"seconds": 0.0, "startup_seconds": 0.0}
    assert logged == {"clip_ratio/high_at_k": 0.5, "promoted": 1.0, **timings}


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
    assert series(context, [{"step": 0} | dict.fromkeys(names, 1.0)]) == []
    assert len(client.get_run(find_run(client, context, "training")[0]).data.metrics) == len(names) + 2


def test_settings_are_flat_cut_at_mlflows_length_and_more_than_a_batch(
    context: StepContext, client: MlflowClient
) -> None:
    settings = {"rewards": {"reward_funcs": ["format", "accuracy"]}, "long": "x" * 7000}
    settings |= {f"field_{index}": index for index in range(150)}
    logged = client.get_run(start_parent(context, settings)).data.params
    assert logged == flat_params(settings)
    assert logged["rewards.reward_funcs"] == '["format", "accuracy"]'
    assert len(logged["long"]) == 6000 and logged["long"].endswith("... (cut)")


def test_settings_that_differ_in_a_rerun_are_named(context: StepContext, client: MlflowClient) -> None:
    start_parent(context, {"beta": 0.1})
    with pytest.warns(TrackingWarning, match=r"\['beta'\]"):
        run_id = start_parent(context, {"beta": 0.2, "seed": 3})
    assert client.get_run(run_id).data.params == {"beta": "0.1", "seed": "3"}


def test_a_dataset_is_an_input_with_a_digest_that_mlflow_takes(context: StepContext, client: MlflowClient) -> None:
    ref = ArtifactRef(kind="dataset", uri="s3://bucket/dataset/" + "a" * 64, digest="a" * 64, size=10)
    groups = ArtifactRef(kind="groups", uri="s3://bucket/groups/" + "b" * 64, digest="b" * 64, size=10)
    for _ in range(2):
        track_step(context, "ingest", Outputs(artifacts={"dataset": ref}))
        track_step(context, "training", Outputs(), inputs=[ref, groups])
    (found,) = client.get_run(find_parent(client, context)).inputs.dataset_inputs
    assert found.dataset.digest == "a" * 36
    assert ref.uri in found.dataset.source
    used = client.get_run(find_run(client, context, "training")[0]).inputs.dataset_inputs
    assert {(item.dataset.name, item.tags[0].value) for item in used} == {
        ("dataset", "training"),
        ("groups", "training"),
    }


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
    parent = client.get_run(find_parent(client, context))
    assert history(client, parent.info.run_id, "training/reward") == [(3, 1.2)]
    assert [item.path for item in client.list_artifacts(parent.info.run_id, "report")] == [
        "report/figures",
        "report/report.html",
    ]
    assert len(client.list_artifacts(parent.info.run_id, "report/figures")) == 1
    assert history(client, parent.info.run_id, "training/steps/loss") == [(7, 0.9)]
    run_id, _ = find_run(client, in_round, "training", 3)
    assert history(client, run_id, "reward") == [(3, 1.2)]
    assert history(client, run_id, "loss") == [(7, 0.9)]
    assert client.get_run(run_id).data.tags["deepvideo.artifact.report"] == report.uri


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
    parent = client.get_run(find_parent(client, context))
    # the page takes the first of the metrics as the store returns them (ParallelCoordinatesPlotPanel: slice(0, 1))
    assert next(iter(parent.data.metrics)) == "eval/L1/accuracy"
    assert history(client, parent.info.run_id, "eval/L1/accuracy") == [(0, 0.25), (1, 0.5), (2, 0.75)]
    assert not {name for name in parent.data.metrics if name.endswith(("rows", "questions"))}
    assert history(client, find_run(client, context, "ingest")[0], "rows") == [(0, 240.0)]


def test_kubeflows_runs_are_used_get_our_tags_and_keep_their_status(
    context: StepContext, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = client.create_experiment("KFP-Default")
    parent = client.create_run(experiment).info.run_id
    a_round = client.create_run(experiment, tags={"mlflow.parentRunId": parent}).info.run_id
    first, second = (
        client.create_run(experiment, tags={"mlflow.parentRunId": above}).info.run_id for above in (parent, a_round)
    )
    monkeypatch.setenv("MLFLOW_RUN_ID", first)
    assert start_parent(context.in_this_task(), {"beta": 0.1}) == parent
    monkeypatch.setenv("MLFLOW_RUN_ID", second)
    context = context.model_copy(update={"parent_run_id": "", "round": 2}).in_this_task()
    track_step(context, "difficulty", Outputs(results={"reward": 1.0}))
    track_step(context, "rollout", Outputs())  # another step in the same task
    finish_parent(context)
    assert client.get_run(second).data.metrics["reward"] == 1.0
    assert client.get_run(second).data.tags["mlflow.parentRunId"] == a_round  # Kubeflow nests it inside its round
    (other,) = client.search_runs([experiment], "tags.`deepvideo.step` = 'rollout'")
    assert other.info.run_id != second and other.data.tags["mlflow.parentRunId"] == parent
    assert {client.get_run(run_id).info.status for run_id in (parent, second)} == {"RUNNING"}
    ours = context.model_copy(update={"task_run_id": "", "run_name": "ours"})
    track_step(ours, "difficulty", Outputs())
    for theirs, own in ((parent, find_parent(client, ours)), (second, find_run(client, ours, "difficulty", 2)[0])):
        tags = client.get_run(theirs).data.tags
        wanted = {name: value for name, value in client.get_run(own).data.tags.items() if name.startswith("deepvideo.")}
        assert tags.items() >= (wanted | {"deepvideo.run": context.run_name}).items()


def test_kubeflows_run_is_known_after_mlflow_deleted_its_variable(
    context: StepContext, client: MlflowClient, tmp_path: Path
) -> None:
    run_id = client.create_run("0").info.run_id
    given = context.model_copy(update={"tracking_uri": ""}).model_dump_json()
    code = f"""
        import os
        from components.shared.face import StepFace
        face = StepFace("training", {given!r}, "{{}}", 1)
        import mlflow
        mlflow.start_run()
        assert "MLFLOW_RUN_ID" not in os.environ
        from components.training.spec import WorkerSpec
        assert "context" in WorkerSpec.model_fields  # what the training process is told
        print(face.context.task_run_id, face.context.tracking_uri)
    """
    environment = {**os.environ, "MLFLOW_RUN_ID": run_id, "MLFLOW_TRACKING_URI": context.tracking_uri}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        check=True, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert done.stdout.split() == [run_id, context.tracking_uri]


def test_the_machine_is_watched_on_the_runs_axis_also_in_a_step_that_is_killed(
    context: StepContext, client: MlflowClient
) -> None:
    begin_run(context.open_store(), context.run_name)
    in_round = context.model_copy(update={"round": 1})
    watched = SystemMetrics(in_round, "training", seconds=0.3)
    wait_for(lambda: len({second for _, second in list(watched._samples)}) >= 2)
    watched.stop()
    assert len(waiting(context)) == 1  # sent with the step's own figures, or if it has none, at the run's end
    finish_parent(context, "FAILED")
    run_id, _ = find_run(client, in_round, "training", 1)
    names = {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"}
    assert names <= set(client.get_run(run_id).data.metrics)
    steps = [step for step, _ in history(client, run_id, "system/cpu_utilization_percentage")]
    assert steps == sorted(set(steps)) and len(steps) >= 2 and 0 <= steps[0] <= steps[-1] < 60


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


def test_a_store_that_fails_costs_a_warning_and_not_the_step_but_no_run_begins_without_it(
    context: StepContext, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    broken = context.model_copy(update={"tracking_uri": f"sqlite:///{tmp_path}/file/mlflow.db"})
    with pytest.warns(TrackingWarning, match="packets that wait in .* to be sent later: 1"):
        assert len(track_step(broken, "training", Outputs(results={"reward": 1.0}))) == 1
    with pytest.raises(TrackingError, match="cannot be used: .*start it, correct the tracking URI"):
        start_parent(broken, {})


def test_what_mlflow_refuses_is_kept_and_does_not_hold_up_the_rest(context: StepContext, client: MlflowClient) -> None:
    series(context, [{"step": 0, "loss": 1.0}])
    run_id, _ = find_run(client, context, "training")
    lost = context.model_copy(update={"task_run_id": run_id, "parent_run_id": find_parent(client, context)})
    client.delete_run(run_id)  # MLflow refuses to write to it
    with pytest.warns(TrackingWarning, match="wait in"):
        series(lost, [{"step": 1, "loss": 0.5}])
        track_step(context, "promotion", Outputs(results={"eval/gain": 1.0}))
    assert client.get_run(find_parent(client, context)).data.metrics["eval/gain"] == 1.0
    client.restore_run(run_id)
    finish_parent(context)
    assert history(client, run_id, "loss") == [(0, 1.0), (1, 0.5)] and waiting(context) == []


def test_processes_that_start_at_once_share_one_new_database_and_print_nothing(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/new/folder/mlflow.db"
    code = f"""
        import sys
        from components.shared.context import StepContext
        from components.shared.tracking import finish_parent, start_parent
        context = StepContext(store={str(tmp_path / "store")!r}, tracking_uri={uri!r}, run_name=sys.argv[1])
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
