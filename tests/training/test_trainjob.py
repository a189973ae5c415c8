"""Training on several nodes: the TrainJob over HTTP, its nodes as real processes with disks of their own, S3 between them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

from components.shared.context import StepContext
from components.shared.groups import groups_to_parquet
from components.shared.sampling.artifacts import GROUPS, put_files, read_groups
from components.shared.store import open_store
from components.training.step import train
from components.training.trainjob import handover
from components.training.trainjob.cluster import Cluster
from components.training.trainjob.handover import hand_over, signs_of_life, take_over, watch
from components.training.trainjob.manifest import train_job
from components.training.trainjob.nodes import FIELD_PATHS, Launcher, TrainJobError, nodes_of
from components.training.warmup import warm_up
from components.training.warmup_settings import WarmupSettings
from pipelines.containers.daemons import free_port
from pipelines.containers.radosgw import Bucket
from tests.services.kubeconfig import lead_to
from tests.services.kubernetes_api import NAMESPACE, Kubernetes
from tests.services.kubernetes_http import kubernetes_api
from tests.training_fixtures import stored_inputs, warm_up_inputs
from tests.trainjob_fixtures import NODES, ROOT, SETTINGS, START, Round, at_work, work_of
from tests.waiting import SOON, wait_for


@pytest.fixture
def cluster(tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubernetes]:
    """A cluster whose secret and config map say where the bucket is, and the kubeconfig that leads to it."""
    known = {name: bucket.environment[name] for name in bucket.environment if name.startswith("AWS_")}
    secret = {name: known.pop(name) for name in NODES.store_secret_keys}
    known.setdefault("AWS_REGION", known.get("AWS_DEFAULT_REGION", "us-east-1"))
    (tmp_path / "nodes").mkdir()
    with kubernetes_api(tmp_path / "nodes", {"store": secret}, {"store": known}) as running:
        lead_to(running.url, tmp_path, monkeypatch)
        monkeypatch.setattr("components.training.trainjob.run.POLL", 0.3)
        yield running


@pytest.fixture
def a_round(tmp_path: Path, bucket: Bucket, policy_folder: Path, cluster: Kubernetes) -> Round:
    return Round(tmp_path, bucket, policy_folder, cluster)


@contextlib.contextmanager
def short_beats() -> Iterator[None]:
    before = handover.BEAT
    handover.BEAT = 0.2
    yield
    handover.BEAT = before


def test_killed_and_run_again_the_step_follows_the_same_job_to_what_one_node_gives(
    a_round: Round, cluster: Kubernetes, tmp_path: Path, policy_folder: Path
) -> None:
    first = a_round.start()
    wait_for(lambda: at_work(cluster), START)
    first.kill()  # nothing is left to delete the job
    first.wait()
    nodes = cluster.processes()
    for node in nodes:  # they are not done before the next attempt looks for them
        node.send_signal(signal.SIGSTOP)
    (job,) = cluster.jobs.values()
    assert job["spec"]["trainer"]["numNodes"] == len(nodes) == 2
    assert TrainerV1alpha1TrainJob.from_dict(job).to_dict()["spec"] == job["spec"]  # as Trainer's own client reads it

    again = a_round.start()
    wait_for(lambda: "following it" in a_round.log(), START)
    cluster.delete_pod("step-1")  # the job has a new owner
    for node in nodes:
        node.send_signal(signal.SIGCONT)
    assert again.wait(900) == 0, a_round.log()
    assert a_round.posts() == 1 and cluster.jobs[job["metadata"]["name"]] is job
    assert all(process.returncode == 0 for process in nodes)
    assert "[node 0] storing policy and state" in a_round.log() and "[node 1] starting the workers" in a_round.log()
    assert len({line for line in a_round.log().splitlines() if "fetching" in line}) == 2  # each node's, and once

    context = StepContext(store=str(tmp_path / "folder"), seed=3, round=1)
    refs = stored_inputs(context.open_store(), tmp_path / "one", policy_folder, 4)
    assert {name: ref.digest for name, ref in refs.items()} == {n: ref.digest for n, ref in a_round.refs.items()}
    one = train(**refs, settings=SETTINGS.model_copy(update={"nproc_per_node": 2}), context=context)
    for name, ref in a_round.outputs().artifacts.items():
        assert ref.digest == one.artifacts[name].digest, name  # two nodes of one process are one node of two
        assert ref.metadata == one.artifacts[name].metadata
    assert a_round.context.open_store().list_objects("work") == []
    cluster.delete_pod("step-2")
    assert not cluster.jobs


def test_a_warm_up_on_two_nodes_is_that_of_one_with_two_processes(
    tmp_path: Path, bucket: Bucket, policy_folder: Path, cluster: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = ("step-1", cluster.add_pod("step-1"), NAMESPACE, "deepvideo-runner")
    for name, value in zip(FIELD_PATHS, pod, strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # a machine shares its cores among its processes, and sums differ by it
    learning = {"settings": WarmupSettings(num_train_epochs=2, train_batch_size=4), "training": SETTINGS}
    far = warm_up_inputs(tmp_path / "far", policy_folder, f"{bucket.uri}/warm")
    many = warm_up(**far.refs, **learning, context=far.context, nodes=NODES)
    assert sum(method == "POST" for method, _ in cluster.requests) == 1
    assert [job["spec"]["trainer"]["numNodes"] for job in cluster.jobs.values()] == [2]
    here = warm_up_inputs(tmp_path / "here", policy_folder)
    learning["training"] = SETTINGS.model_copy(update={"nproc_per_node": 2})
    one = warm_up(**here.refs, **learning, context=here.context)
    assert {name: ref.digest for name, ref in many.artifacts.items()} == {n: r.digest for n, r in one.artifacts.items()}
    assert many.artifacts["policy"].metadata == {"model": "tiny", "warmup": 2}
    assert many.results["loss_last_epoch"] == one.results["loss_last_epoch"] < one.results["loss_first_epoch"]
    assert far.store.list_objects("work") == [] and far.store.list_objects("state") == []


def test_nodes_end_by_themselves_when_nobody_gives_them_signs_of_life(tmp_path: Path) -> None:
    store, key = open_store(str(tmp_path / "store")), "training-x"
    lost = threading.Event()
    with short_beats():
        with signs_of_life(store, key):
            watch(store, key, lost.set)
            assert not lost.wait(5)  # more than may be missing
        assert lost.wait(SOON)


def test_a_node_whose_step_was_killed_ends_with_its_workers(a_round: Round, tmp_path: Path) -> None:
    store, work = a_round.context.open_store(), work_of(a_round)
    hand_over(store, work)
    program = f"""
from components.training.trainjob import handover, node
handover.BEAT, handover.PATIENCE = 0.5, 10
node.main({a_round.context.store!r}, {work.key!r})
"""
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PET_NODE_RANK": "0",
        "PET_NNODES": "2",
        "PET_MASTER_ADDR": "127.0.0.1",
    }
    env |= {"PET_MASTER_PORT": str(free_port()), "TMPDIR": str(tmp_path)}
    with short_beats(), signs_of_life(store, work.key):
        node = subprocess.Popen([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, text=True)
        assert node.stdout
        for line in node.stdout:
            if "starting the workers" in line:
                break
    assert "no sign of life any more" in node.stdout.read()  # its output ends with its last process
    assert node.wait(60) == 128 + signal.SIGTERM


def test_a_node_of_another_version_is_refused(a_round: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    store, work = a_round.context.open_store(), work_of(a_round)
    with pytest.raises(TrainJobError, match="work.json: is not there"):
        take_over(store, work.key)
    hand_over(store, work)
    assert take_over(store, work.key) == work
    monkeypatch.setattr("components.training.trainjob.handover.code_version", lambda: "another")
    with pytest.raises(TrainJobError, match="other code than the launching step's: build and push"):
        take_over(store, work.key)


def test_a_field_that_trainer_does_not_know_is_refused(cluster: Kubernetes, a_round: Round) -> None:
    api = Cluster(Launcher(*a_round.pod().values()))
    job = train_job(work_of(a_round), NODES, api.launcher)
    job["spec"]["trainer"]["numberOfNodes"] = 2
    with pytest.raises(TrainJobError, match="400.*'numberOfNodes' was unexpected"):
        api.create(job)
    assert not cluster.jobs


def test_ended_the_step_deletes_the_job_and_its_nodes(a_round: Round, cluster: Kubernetes) -> None:
    step = a_round.start()
    wait_for(lambda: at_work(cluster), START)
    nodes = cluster.processes()
    step.terminate()
    assert step.wait(2 * SOON) == 128 + signal.SIGTERM
    assert not cluster.jobs and all(process.poll() is not None for process in nodes)
    assert "deleted" in a_round.log()


def test_killed_for_good_the_step_takes_the_job_with_its_pod(a_round: Round, cluster: Kubernetes) -> None:
    cluster.busy = 3  # the API is away for a moment
    step = a_round.start()
    wait_for(lambda: at_work(cluster), START)
    nodes = cluster.processes()
    step.kill()
    step.wait()
    assert cluster.jobs
    cluster.delete_pod("step-1")  # as Argo does with a run's
    assert not cluster.jobs and all(process.poll() is not None for process in nodes)


def test_a_failing_nodes_last_lines_fail_the_step_and_a_retry_replaces_the_job(
    a_round: Round, cluster: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = a_round.context.open_store()
    made = read_groups(store.get(a_round.refs["groups"]))
    cut = made[1].model_copy(update={"prompt_token_ids": made[1].prompt_token_ids[:-1]})
    wrong = put_files(store, "groups", {GROUPS: groups_to_parquet([made[0], cut])})
    uids = []
    for attempt in (1, 2):
        for name, value in a_round.pod().items():
            monkeypatch.setenv(name, value)
        with pytest.raises(TrainJobError) as caught:
            train(**{**a_round.refs, "groups": wrong}, settings=SETTINGS, context=a_round.context, nodes=NODES)
        assert "The last lines of node" in str(caught.value) and "exit code 1" in str(caught.value)
        assert "sample s01: the trainer's prompt has" in str(caught.value)
        uids += [job["metadata"]["uid"] for job in cluster.jobs.values()]
        assert len(uids) == attempt == a_round.posts()  # a failed job stays to be looked at until it is replaced
    assert uids[0] != uids[1]


@pytest.mark.parametrize(("status", "words"), [(403, ["403", "is forbidden", "runner.yaml"]), (401, ["401", "token"])])
def test_a_refusal_is_told_with_the_remedy(
    a_round: Round, cluster: Kubernetes, monkeypatch: pytest.MonkeyPatch, status: int, words: list[str]
) -> None:
    for name, value in a_round.pod().items():
        monkeypatch.setenv(name, value)
    cluster.refuse = status
    with pytest.raises(TrainJobError) as caught:
        train(**a_round.refs, settings=SETTINGS, context=a_round.context, nodes=NODES)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_outside_of_a_pod_the_remedy_is_told(a_round: Round) -> None:
    with pytest.raises(TrainJobError, match="DEEPVIDEO_POD_NAME.*training_pods.num_nodes to 1"):
        train(**a_round.refs, settings=SETTINGS, context=a_round.context, nodes=NODES)


def test_what_the_run_sets_wins_over_what_is_compiled_in() -> None:
    compiled = NODES.model_copy(update={"tolerations": ()}).model_dump_json()
    taint = {"operator": "Exists", "key": "pool", "effect": "NoSchedule"}
    found = nodes_of(compiled, [taint], memory="96Gi", node_selector={}, gpu_type="", store_secret="other")
    assert found == NODES.model_copy(update={"tolerations": (taint,), "memory": "96Gi", "store_secret": "other"})
    assert nodes_of("", [], memory="1Gi") is None
