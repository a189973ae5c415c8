"""What the compiled pipeline asks Kubernetes for, read back from its IR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from components.training.trainjob.nodes import FIELD_PATHS
from pipelines.cli import app
from pipelines.dag import compile_pipeline
from pipelines.inputs import INPUTS, OVERRIDES, RUN_NAME, STORE, TRACKING
from pipelines.manifests import write_manifests
from pipelines.pods.table import Given, Pod, read_pods
from pipelines.settings import SettingsError, build_settings, load_preset
from pipelines.sharing import share_equal_parts
from pipelines.validation.step import check

STORE_SECRET = Given("deepvideo-store", "cluster_store_secret")
MLFLOW = Given("deepvideo-mlflow")


def pipeline_of(folder: Path, preset: str, rounds: int = 2, cluster: bool = True, **settings: Any) -> Path:
    layer = {"pipeline.rounds": rounds} | {name.replace("__", "."): value for name, value in settings.items()}
    return compile_pipeline(build_settings(load_preset(preset), layer), folder / "pipeline.yaml", cluster)


def pods_of(folder: Path, preset: str, **settings: Any) -> dict[str, Pod]:
    path = pipeline_of(folder, preset, **settings)
    return {pod.task: pod for pod in read_pods(path)}


def told(pod: Pod) -> tuple[Any, ...]:
    taints = [f"{item['key']}:{item['effect']}" for item in pod.tolerations.value]
    values = (pod.gpu_type.value if pod.gpus else "", pod.node_selector.value, taints)
    return (pod.image.rpartition("-")[2], pod.gpus, *values, pod.memory.value, pod.shared_memory, pod.timeout)


@pytest.mark.parametrize(("preset", "training_memory"), [("paper-3b", "512Gi"), ("paper-7b", "768Gi")])
def test_the_gpu_presets_steps_ask_for_what_they_use(tmp_path: Path, preset: str, training_memory: str) -> None:
    pods = pods_of(tmp_path, preset, rounds=20)
    light = ("light:0.1.0", "", "", {}, [], "8Gi", "2Gi", 86400)
    gpu = ("nvidia.com/gpu", {"nvidia.com/gpu.present": "true"}, ["nvidia.com/gpu:NoSchedule"])
    shards = ("generation:0.1.0", "1", *gpu, "128Gi", "16Gi", 43200)
    merging = ("generation:0.1.0", "", "", *gpu[1:], "8Gi", "2Gi", 43200)
    assert {task: told(pod) for task, pod in pods.items()} == {
        "Check inputs": light,
        "Ingest": ("light:0.1.0", "", "", {}, [], "64Gi", "2Gi", 86400),
        "Evaluation before, 4 shards": shards,
        "Evaluation before": merging,
        "Rounds 1 to 20: Difficulty, 4 shards": shards,
        "Rounds 1 to 20: Difficulty": merging,
        "Rounds 1 to 20: Augmentation, 4 shards": shards,
        "Rounds 1 to 20: Augmentation": merging,
        "Rounds 1 to 20: Rollout, 4 shards": shards,
        "Rounds 1 to 20: Rollout": merging,
        "Rounds 1 to 20: Training": ("training:0.1.0", "8", *gpu, training_memory, "64Gi", 86400),
        "Evaluation after, 4 shards": shards,
        "Evaluation after": merging,
        "Evaluation of the champion, 4 shards": shards,
        "Evaluation of the champion": merging,
        "Promotion": light,
        "Report": light,
        "Close the run": light,
    }
    assert {pod.retries for pod in pods.values()} == {"2, 60s x2 up to 1800s"}
    more = {"Ingest": "deepvideo-hub", "Check inputs": "deepvideo-hub", "Close the run": "deepvideo-notification"}
    for task, pod in pods.items():
        assert pod.secrets == [STORE_SECRET, MLFLOW] + ([Given(more[task])] if task in more else [])
    queues = {task: pod.labels.get("kueue.x-k8s.io/queue-name") for task, pod in pods.items()}
    assert {task for task, queue in queues.items() if queue} == {
        task
        for task, pod in pods.items()
        if pod.tolerations.value  # on the nodes with GPUs
    }
    assert pods["Rounds 1 to 20: Training"].labels["app.kubernetes.io/component"] == "training"


def test_what_kfp_takes_as_input_is_an_input_of_the_run(tmp_path: Path) -> None:
    pods = pods_of(tmp_path, "paper-3b")
    training, rollout = pods["Rounds 1 to 2: Training"], pods["Rounds 1 to 2: Rollout, 4 shards"]
    assert training.memory.run_input == "cluster_training_memory"
    assert training.node_selector.run_input == "cluster_training_node_selector"
    assert rollout.node_selector.run_input == "cluster_generation_node_selector"
    for pod in (training, rollout):
        assert pod.gpu_type.run_input == "cluster_gpu_type" and pod.tolerations.run_input == "cluster_gpu_tolerations"


def test_amounts_are_inputs_of_type_text_because_the_driver_reads_nothing_else(tmp_path: Path) -> None:
    path = pipeline_of(tmp_path, "paper-3b")
    spec = next(yaml.safe_load_all(path.read_text()))
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    types = {name: item["parameterType"] for name, item in inputs.items() if name.startswith("cluster_")}
    assert types == {
        "cluster_generation_node_selector": "STRUCT",
        "cluster_gpu_tolerations": "LIST",
        "cluster_gpu_type": "STRING",
        "cluster_store_secret": "STRING",
        "cluster_training_memory": "STRING",
        "cluster_training_node_selector": "STRUCT",
    }


def test_a_steps_own_value_wins_over_its_images_and_over_the_runs_input(tmp_path: Path) -> None:
    overrides = ["rollout.node_selector=pool=big", "rollout.timeout=60", "training.memory=900Gi"]
    pods = pods_of(tmp_path, "paper-3b", cluster__step_overrides=overrides)
    training = pods["Rounds 1 to 2: Training"]
    for rollout in (pods["Rounds 1 to 2: Rollout"], pods["Rounds 1 to 2: Rollout, 4 shards"]):
        assert (rollout.node_selector, rollout.timeout) == (Given({"pool": "big"}), 60)
    assert training.memory == Given("900Gi")
    assert pods["Evaluation before"].timeout == 43200 and pods["Ingest"].cpu == "2"


def test_without_gpus_steps_run_on_cpu_images_and_gpu_inputs_are_not_asked_for(tmp_path: Path) -> None:
    pods = pods_of(tmp_path, "laptop")
    assert {pod.image.rpartition("-r1-")[2] for pod in pods.values()} == {
        "light:0.1.0",
        "generation:0.1.0-cpu",
        "training:0.1.0-cpu",
    }
    assert not any(pod.gpus or pod.tolerations.value for pod in pods.values())
    text = (tmp_path / "pipeline.yaml").read_text()
    assert "cluster_store_secret" in text and "cluster_gpu" not in text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"training_pods__gpu_count": 4}, ["training_pods.gpu_count: is 4", "training.nproc_per_node uses 8"]),
        ({"generation__tensor_parallel_size": 2}, ["generation_pods.gpu_count: is 1", "tensor_parallel_size uses 2"]),
        ({"cluster__step_overrides": "ingest.gpu_count=1"}, ["step_overrides: ingest.gpu_count: is 1"]),
    ],
)
def test_gpus_that_a_step_would_not_use_are_refused(tmp_path: Path, settings: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        pods_of(tmp_path, "paper-3b", **settings)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_on_several_nodes_a_light_pod_starts_a_trainjob_whose_nodes_are_as_the_settings_say(tmp_path: Path) -> None:
    overrides = ["training.memory=900Gi", "training.scratch=1Ti"]
    pods = pods_of(tmp_path, "paper-7b", training_pods__num_nodes=2, cluster__step_overrides=overrides)
    launcher, nodes = pods["Rounds 1 to 2: Training"], pods["Rounds 1 to 2: Training, 2 nodes of a TrainJob"]
    assert launcher.image.endswith("training:0.1.0-cpu") and (launcher.gpus, launcher.memory) == ("", Given("8Gi"))
    assert (launcher.timeout, launcher.retries) == (0, "2, 60s x2 up to 1800s")  # the job has the timeout
    gpu = ("nvidia.com/gpu", {"nvidia.com/gpu.present": "true"}, ["nvidia.com/gpu:NoSchedule"])
    assert told(nodes) == ("training:0.1.0", "8", *gpu, "900Gi", "64Gi", 86400)
    assert nodes.memory.run_input == "" and nodes.node_selector.run_input == "cluster_training_node_selector"
    assert nodes.secrets == [STORE_SECRET] and nodes.labels == {"kueue.x-k8s.io/queue-name": "deepvideo-gpu"}
    _, platform = yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())
    pod = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train-policy"]
    assert {item["name"]: item["fieldPath"] for item in pod["fieldPathAsEnv"]} == FIELD_PATHS
    wide = {"COLUMNS": "320"}  # no name is folded
    printed = CliRunner().invoke(app, ["resources", str(tmp_path / "pipeline.yaml")], env=wide).output
    assert "TrainJob" in printed


def test_a_warm_up_has_the_nodes_of_a_trainjob_as_training_has(tmp_path: Path) -> None:
    overrides = ["warmup.memory=700Gi"]
    changes = {"training_pods__num_nodes": 2, "warmup__num_train_epochs": 1, "cluster__step_overrides": overrides}
    pods = pods_of(tmp_path, "paper-3b", **changes)
    assert pods["Supervised warm-up"].gpus == pods["Rounds 1 to 2: Training"].gpus == ""
    warm, training = (
        pods[f"{name}, 2 nodes of a TrainJob"] for name in ("Supervised warm-up", "Rounds 1 to 2: Training")
    )
    assert warm.gpus == training.gpus == "8" and warm.memory == Given("700Gi")
    assert warm._replace(task=training.task, memory=training.memory) == training


def test_a_local_run_has_no_trainjob(tmp_path: Path) -> None:
    text = pipeline_of(tmp_path, "paper-3b", cluster=False, training_pods__num_nodes=2).read_text()
    assert "deepvideo-torchrun" not in text


def test_no_pod_is_root_and_every_one_has_scratch_and_the_projects_label(tmp_path: Path) -> None:
    path = pipeline_of(tmp_path, "paper-3b")
    spec, platform = yaml.safe_load_all(path.read_text())
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(pods) == set(spec["deploymentSpec"]["executors"])
    for pod in pods.values():
        assert pod["securityContext"] == {"runAsNonRoot": True, "runAsUser": "10001", "runAsGroup": "10001"}
        assert "/scratch" in [item["mountPath"] for item in pod["emptyDirMounts"]]
        assert pod["podMetadata"]["labels"]["app.kubernetes.io/part-of"] == "deepvideo-r1"


def test_a_local_run_has_neither_pods_nor_retries_nor_their_inputs(tmp_path: Path) -> None:
    path = pipeline_of(tmp_path, "paper-3b", cluster=False)
    documents = list(yaml.safe_load_all(path.read_text()))
    assert len(documents) == 1  # no platform's part
    assert "retryPolicy" not in path.read_text() and "cluster_" not in path.read_text()
    assert not any("resources" in item["container"] for item in documents[0]["deploymentSpec"]["executors"].values())


def test_a_run_cannot_override_what_is_compiled_into_pods() -> None:
    settings = build_settings(load_preset("paper-3b"))
    inputs = {name: getattr(getattr(settings, path.split(".")[0]), path.split(".")[1]) for name, path in INPUTS.items()}
    inputs |= {STORE: "s3://bucket", TRACKING: "", RUN_NAME: "", OVERRIDES: "training_pods.gpu_count: 4"}
    with pytest.raises(SettingsError, match="training_pods: compiled in"):
        check(settings.model_dump_json(), "run", inputs)


def test_equal_executors_in_different_pods_are_not_made_one(tmp_path: Path) -> None:
    spec = {
        "pipelineInfo": {"name": "p"},
        "components": {name: {"executorLabel": f"exec-{name}"} for name in ("a", "b", "c")},
        "deploymentSpec": {"executors": {f"exec-{name}": {"container": {"image": "x"}} for name in ("a", "b", "c")}},
        "root": {"dag": {"tasks": {name: {"componentRef": {"name": name}} for name in ("a", "b", "c")}}},
    }
    timeouts = {"exec-a": 1, "exec-b": 2, "exec-c": 1}
    pods = {name: {"activeDeadlineSeconds": seconds} for name, seconds in timeouts.items()}
    platform = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": pods}}}}
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump_all([spec, platform]))
    share_equal_parts(path)
    shared, platform = yaml.safe_load_all(path.read_text())
    assert set(shared["deploymentSpec"]["executors"]) == {"exec-a", "exec-b"}
    assert set(platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]) == {"exec-a", "exec-b"}
    used = {name: task["componentRef"]["name"] for name, task in shared["root"]["dag"]["tasks"].items()}
    assert used == {"a": "a", "b": "b", "c": "a"}


def test_the_command_prints_a_row_a_step_and_names_a_missing_file(tmp_path: Path) -> None:
    pods = pods_of(tmp_path, "paper-3b")
    wide = {"COLUMNS": "320"}  # no name is folded
    printed = CliRunner().invoke(app, ["resources", str(tmp_path / "pipeline.yaml")], env=wide).output
    assert all(task in printed for task in pods)
    assert "8 nvidia.com/gpu*" in printed and "* default of a run's input: cluster_generation_node_selector" in printed
    missing = CliRunner().invoke(app, ["resources", str(tmp_path / "none.yaml")])
    assert isinstance(missing.exception, SettingsError) and "deepvideo compile" in str(missing.exception)


def test_the_command_reads_kfps_resources_too_and_shows_the_registry_of_images(tmp_path: Path) -> None:
    path = pipeline_of(tmp_path, "kill")
    path.write_text(path.read_text().replace("localhost/", "registry.example/a-rather-long-team/deepvideo/"))
    version = write_manifests(path, tmp_path / "resources.yaml", "kill-1", namespace="team")
    ir, resources = (CliRunner().invoke(app, ["resources", str(item)]).output for item in (path, version))
    assert ir == resources and "registry.example/a-rather-long-team/deepvideo/deepvideo-r1-light:0.1.0 " in ir
    version.write_text(version.read_text().partition("---\n")[2])
    assert yaml.safe_load(version.read_text())["kind"] == "PipelineVersion"  # alone, as one may keep it
    assert read_pods(version) == read_pods(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"Some words, and no more.", "is no compiled pipeline"),
        (b"", "is no compiled pipeline"),
        (b"rl_beta: [1", "is not valid YAML"),
        (b"\xff\xfe\x00", "is not valid YAML"),
        (b'{"training": {"beta": 0.1}}', "is no compiled pipeline"),
        (b"kind: PipelineVersion", "is no compiled pipeline"),
        (b"kind: PipelineVersion\nspec: {}", "is no compiled pipeline"),
        (b"kind: Deployment\nspec: {}\n---\nkind: Service", "is no compiled pipeline"),
        (
            b"{pipelineInfo: {name: other}, root: {}, components: {}, deploymentSpec: {}}",
            "is the pipeline 'other', not 'deepvideo-r1'",
        ),
    ],
)
def test_the_command_says_of_any_other_file_that_it_is_none(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "file").write_bytes(content)
    told = str(CliRunner().invoke(app, ["resources", str(tmp_path / "file")]).exception)
    assert words in told and str(tmp_path / "file") in told and "deepvideo compile" in told and "\n" not in told
