"""The loops of shards in the compiled pipeline, and the pods of shards and of what merges them."""

from __future__ import annotations

import itertools
import json
import re
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.shared.sharding import MERGES, Shard
from pipelines.dag import compile_pipeline
from pipelines.pods.table import read_pods
from pipelines.settings import SettingsError, build_settings, load_preset


def compiled(folder: Path, *, cluster: bool = True, **given: Any) -> tuple[dict[str, Any], Path]:
    layer = {"pipeline.rounds": 1} | {name.replace("__", "."): value for name, value in given.items()}
    path = compile_pipeline(build_settings(load_preset("paper-3b"), layer), folder / "pipeline.yaml", cluster)
    return next(yaml.safe_load_all(path.read_text())), path


def loops(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    parts = [spec["root"], *spec["components"].values()]
    found = [task for part in parts for task in part.get("dag", {}).get("tasks", {}).values()]
    return {task["taskInfo"]["name"]: task for task in found if "parameterIterator" in task}


def test_each_generating_step_stands_behind_a_loop_of_its_shards(tmp_path: Path) -> None:
    spec, path = compiled(tmp_path, pipeline__shards=3, pipeline__evaluation_shards=2)
    found = loops(spec)
    shards = {"Difficulty": 3, "Augmentation": 3, "Rollout": 3} | dict.fromkeys(
        ("Evaluation before", "Evaluation after", "Evaluation of the champion"), 2
    )
    assert set(found) == {f"{title}, {count} shards" for title, count in shards.items()}
    for title, count in shards.items():
        loop = found[f"{title}, {count} shards"]
        assert json.loads(loop["parameterIterator"]["items"]["raw"]) == [str(s) for s in Shard.all_of(count)]
        assert "iteratorPolicy" not in loop  # all at once
        (inside,) = spec["components"][loop["componentRef"]["name"]]["dag"]["tasks"].values()
        assert inside["taskInfo"]["name"] == f"{title}, shard" and inside["retryPolicy"]["maxRetryCount"] == 2
    pods = {pod.task: pod for pod in read_pods(path)}
    for title, count in shards.items():
        name = title if title.startswith("Evaluation") else f"Round 1: {title}"
        shard, merging = pods[f"{name}, {count} shards"], pods[name]
        assert (shard.gpus, merging.gpus) == ("1", "")
        assert (shard.memory.value, merging.memory.value) == ("128Gi", "8Gi")
        assert shard.image == merging.image and merging.image.endswith("generation:0.1.0")  # see Placement._merging
        for same in ("node_selector", "tolerations", "timeout", "retries", "labels", "secrets"):
            assert getattr(shard, same) == getattr(merging, same), same
        assert shard.tolerations.value and shard.node_selector.run_input == "cluster_generation_node_selector"
    executors = spec["deploymentSpec"]["executors"].values()
    told = {item["value"] for one in executors for item in one["container"].get("env", ()) if item["name"] == MERGES}
    assert told == {"2", "3"}


def test_a_merging_task_waits_for_the_loop_and_takes_nothing_from_it(tmp_path: Path) -> None:
    spec, _ = compiled(tmp_path)
    for part in spec["components"].values():
        tasks = part.get("dag", {}).get("tasks", {})
        for key, loop in tasks.items():
            if "parameterIterator" not in loop:
                continue
            after = [task for task in tasks.values() if key in task.get("dependentTasks", ())]
            assert [task["taskInfo"]["name"] for task in after] == [loop["taskInfo"]["name"].rpartition(",")[0]]
            sources = [s.get("taskOutputArtifact", {}) for s in after[0]["inputs"]["artifacts"].values()]
            assert key not in {source.get("producerTask") for source in sources}


def test_no_two_steps_shards_are_at_work_at_once(tmp_path: Path) -> None:
    """A run asks for no more GPUs than one step's shards have: the quota is made for that."""
    spec, _ = compiled(tmp_path, warmup__num_train_epochs=1)
    for part in (spec["root"], *spec["components"].values()):
        tasks = part.get("dag", {}).get("tasks", {})
        before: dict[str, set[str]] = {}
        for key in TopologicalSorter(
            {key: task.get("dependentTasks", ()) for key, task in tasks.items()}
        ).static_order():
            needs = tasks[key].get("dependentTasks", ())
            before[key] = set(needs).union(*(before[need] for need in needs))
        working = [
            key for key, task in tasks.items() if "parameterIterator" in task or "round" in key or "train" in key
        ]
        for one, other in itertools.combinations(working, 2):
            assert one in before[other] or other in before[one], (one, other)


def test_whatever_a_task_refers_to_its_enclosing_dag_has(tmp_path: Path) -> None:
    """KFP's driver looks a task's inputs, and those of its pod, up in the DAG around it alone."""
    _, path = compiled(tmp_path, pipeline__shards=2)
    spec, platform = yaml.safe_load_all(path.read_text())
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    dags = [part for part in (spec["root"], *spec["components"].values()) if "dag" in part]
    for part in dags:
        has = {kind: set(part.get("inputDefinitions", {}).get(kind, ())) for kind in ("parameters", "artifacts")}
        for task in part["dag"]["tasks"].values():
            given = task.get("inputs", {})
            label = spec["components"][task["componentRef"]["name"]].get("executorLabel", "")
            wanted = json.dumps([given.get("parameters", {}), pods.get(label, {})])
            parameters = re.findall(r'"componentInputParameter": "([^"]+)"', wanted)
            assert set(parameters) <= has["parameters"], task["taskInfo"]["name"]
            artifacts_wanted = re.findall(r'"componentInputArtifact": "([^"]+)"', json.dumps(given))
            assert set(artifacts_wanted) <= has["artifacts"], task["taskInfo"]["name"]


def test_one_shard_is_no_loop_and_a_merging_pod_without_gpus_may_sample(tmp_path: Path) -> None:
    spec, path = compiled(tmp_path, pipeline__shards=1)
    assert loops(spec) == {} and MERGES not in path.read_text() and "sample_share" not in path.read_text()
    cpus = {"pipeline__shards": 2, "generation_pods__gpu_count": 0}
    spec, path = compiled(tmp_path, **cpus)
    assert len(loops(spec)) == 6 and MERGES not in path.read_text()
    assert {pod.image.endswith("-cpu") for pod in read_pods(path) if "Rollout" in pod.task} == {True}


def test_on_one_machine_shards_take_turns(tmp_path: Path) -> None:
    spec, _ = compiled(tmp_path, cluster=False, pipeline__shards=2)
    assert [loop["iteratorPolicy"] for loop in loops(spec).values()] == [{"parallelismLimit": 1}] * 6


def test_fifty_rounds_with_shards_stay_below_one_mebibyte(tmp_path: Path) -> None:
    _, path = compiled(tmp_path, pipeline__rounds=50, pipeline__shards=8)
    assert len(path.read_bytes()) < 1 << 20


def test_shards_of_the_fused_step_are_refused_with_the_remedy() -> None:
    with pytest.raises(SettingsError) as caught:
        build_settings({"pipeline.shards": 4})
    assert all(word in str(caught.value) for word in ("pipeline.shards: is 4", "pipeline.fuse_sampling=false"))
    assert build_settings({"pipeline.evaluation_shards": 4}).pipeline.shards_of("evaluation-after") == 4
