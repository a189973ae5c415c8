"""A real MLflow server that goes away, hangs and comes back: nothing is lost, nothing is there twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kfp import dsl
from mlflow import MlflowClient

from components.shared.context import StepContext
from components.shared.face import StepFace
from components.shared.ledger import Outputs
from components.shared.tracking import TrackingWarning, finish_parent, send, start_parent, track_step, waiting
from components.shared.tracking.client import open_client
from pipelines.containers.mlflow_server import MlflowServer

STEPS = 40  # optimizer steps of a round
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("no_proxy", "127.0.0.1")
        running = MlflowServer(tmp_path_factory.mktemp("mlflow"))
        running.start()
        yield running
        running.kill()


@pytest.fixture
def context(server: MlflowServer, tmp_path: Path, request: pytest.FixtureRequest) -> StepContext:
    context = StepContext(store=str(tmp_path / "store"), tracking_uri=server.url, run_name=request.node.name)
    return context.model_copy(update={"parent_run_id": start_parent(context, {"training": {"beta": 0.1}})})


def outputs_of(round_index: int) -> Outputs:
    rows = [
        {"step": step, "loss": 1.0 / (step + 1), "kl": 0.001 * step}
        for step in range((round_index - 1) * STEPS, round_index * STEPS)
    ]
    return Outputs(results={"steps": rows, "reward": 0.1 * round_index}, seconds=3.0)


def run_step(context: StepContext, round_index: int) -> float:
    """A training step as KFP runs it, with its work done already; returns how long it took to tell MLflow, in seconds."""
    face = StepFace("training", context.model_dump_json(), "{}", round_index)
    started = time.monotonic()
    face.finish(outputs_of(round_index), {}, metrics=dsl.Metrics(name="metrics", uri="unused"))
    return time.monotonic() - started


def check_all_is_there_once(context: StepContext, rounds: int) -> None:
    client = open_client(context.tracking_uri)
    expected = {(step, 1.0 / (step + 1)) for step in range(rounds * STEPS)}
    curve = client.get_metric_history(context.parent_run_id, "training/steps/loss")
    assert sorted((item.step, item.value) for item in curve) == sorted(expected)
    means = client.get_metric_history(context.parent_run_id, "training/reward")
    assert sorted((item.step, item.value) for item in means) == [(k, 0.1 * k) for k in range(1, rounds + 1)]
    nested = nested_runs(client, context)
    assert sorted(run.data.tags["deepvideo.round"] for run in nested) == [str(k) for k in range(1, rounds + 1)]
    told = [(item.step, item.value) for run in nested for item in client.get_metric_history(run.info.run_id, "loss")]
    assert sorted(told) == sorted(expected)
    for run in nested:
        for name in run.data.metrics:
            steps = [item.step for item in client.get_metric_history(run.info.run_id, name)]
            assert len(steps) == len(set(steps)), f"{name} is there twice"
    assert waiting(context) == []


def nested_runs(client: MlflowClient, context: StepContext) -> list:  # type: ignore[type-arg]
    experiment = client.get_run(context.parent_run_id).info.experiment_id
    return client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{context.parent_run_id}'")


def test_a_server_that_is_away_for_a_step_costs_nothing(server: MlflowServer, context: StepContext) -> None:
    run_step(context, 1)
    server.kill()
    try:
        with pytest.warns(TrackingWarning, match="to be sent later"):
            assert run_step(context, 2) < 60
        assert len(waiting(context)) == 2  # the step's figures and the machine's
    finally:
        server.start()
    run_step(context, 3)  # a later step sends them
    assert waiting(context) == []
    assert finish_parent(context) == []
    check_all_is_there_once(context, 3)
    run = open_client(context.tracking_uri).get_run(context.parent_run_id)
    assert run.info.status == "FINISHED" and run.data.params == {"training.beta": "0.1"}
    for nested in nested_runs(open_client(context.tracking_uri), context):
        assert nested.info.end_time - nested.info.start_time < 60_000  # ms: when it ended, not when it was told


def test_the_runs_end_waits_for_a_server_and_sends_what_no_step_could(
    server: MlflowServer, context: StepContext
) -> None:
    server.kill()
    try:
        with pytest.warns(TrackingWarning):
            run_step(context, 1)
            assert finish_parent(context, "FAILED") != []
    finally:
        server.start()
    assert finish_parent(context, "FAILED", seconds=120) == []
    check_all_is_there_once(context, 1)
    client = open_client(context.tracking_uri)
    assert client.get_run(context.parent_run_id).info.status == "FAILED"
    resumed = context.model_copy(update={"parent_run_id": ""})  # continued under the same name
    assert start_parent(resumed, {"training": {"beta": 0.1}}) == context.parent_run_id
    assert client.get_run(context.parent_run_id).info.status == "RUNNING"
    run_step(context, 1)  # found finished in the ledger, and told again
    run_step(context, 2)
    check_all_is_there_once(context, 2)


def test_a_server_that_hangs_holds_a_step_for_a_limited_time(server: MlflowServer, context: StepContext) -> None:
    track_step(context.model_copy(update={"round": 1}), "training", outputs_of(1))
    server.pause()
    try:
        started = time.monotonic()
        with pytest.warns(TrackingWarning, match="it is slow"):
            assert send_after_leaving(context, seconds=3.0) != []
        assert time.monotonic() - started < 40  # MLflow's own patience is longer: 15 s a try
    finally:
        server.resume()
    finish_parent(context, seconds=60)
    check_all_is_there_once(context, 2)


def test_a_run_that_a_lost_request_made_is_not_kept(context: StepContext) -> None:
    client = open_client(context.tracking_uri)
    in_round = context.model_copy(update={"round": 1})
    track_step(in_round, "training", outputs_of(1))
    (made,) = nested_runs(client, context)
    lost = client.create_run(made.info.experiment_id, made.info.start_time - 1, dict(made.data.tags))
    track_step(in_round, "training", outputs_of(1))
    assert {run.info.run_id for run in nested_runs(client, context)} == {made.info.run_id, lost.info.run_id}
    assert client.get_run(lost.info.run_id).data.metrics == {}, "the older one, without figures, was taken"
    finish_parent(context)
    assert [run.info.run_id for run in nested_runs(client, context)] == [made.info.run_id]
    check_all_is_there_once(context, 1)


def send_after_leaving(context: StepContext, seconds: float) -> list[str]:
    """Tell a second round with another patience than a step's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("components.shared.tracking.steps.send", lambda given: send(given, seconds))
        return track_step(context.model_copy(update={"round": 2}), "training", outputs_of(2))


@pytest.mark.parametrize("place", ["before anything", "between two entries", "before the packet is deleted"])
def test_a_kill_while_sending_neither_loses_nor_doubles(context: StepContext, place: str) -> None:
    in_round = context.model_copy(update={"round": 1})
    code = f"""
        import os, signal
        from components.shared.context import StepContext
        from components.shared.tracking import sending, spool, track_step
        from components.shared.store import FolderStore
        from tests.shared.test_spool import outputs_of

        def killed(*_, **__):
            os.kill(os.getpid(), signal.SIGKILL)

        send_entry, sent = sending._send, []
        def second_is_killed(*arguments):
            if sent:
                killed()
            sent.append(send_entry(*arguments))
            return sent[-1]

        place = {place!r}
        if place == "before anything":
            spool.send_packet = killed
        elif place == "between two entries":
            sending._send = second_is_killed
        else:
            FolderStore.delete_objects = killed
        context = StepContext.model_validate_json({in_round.model_dump_json()!r})
        track_step(context, "training", outputs_of(1))
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=environment)
    assert done.returncode == -signal.SIGKILL and len(waiting(context)) == 1
    assert finish_parent(context) == []
    check_all_is_there_once(context, 1)


def test_kills_at_any_moment_neither_lose_nor_double(server: MlflowServer, context: StepContext) -> None:
    in_round = context.model_copy(update={"round": 1}).model_dump_json()
    code = f"""
        from components.shared.context import StepContext
        from components.shared.tracking import track_step
        from components.shared.tracking.client import open_client
        from tests.shared.test_spool import outputs_of
        context = StepContext.model_validate_json({in_round!r})
        open_client(context.tracking_uri).get_run(context.parent_run_id)
        print("ready", flush=True)
        track_step(context, "training", outputs_of(1))
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for moment in (0.01, 0.05, 0.1, 0.2):  # seconds into about half a second of sending
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(moment)
        child.kill()
        child.wait()
    server.kill()  # what it was still at for the last child would come after our look at what is there
    server.start()
    track_step(context.model_copy(update={"round": 1}), "training", outputs_of(1))
    check_all_is_there_once(context, 1)
