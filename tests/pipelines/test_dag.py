"""The compiled pipeline: its shape, its inputs, its size."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipelines.dag import compile_pipeline
from pipelines.inputs import INPUTS, OVERRIDES, RUN_NAME, STORE, TRACKING
from pipelines.pods.inputs import POD_INPUTS, pod_inputs
from pipelines.settings import RunSettings, SettingsError, build_settings, fields, load_preset
from pipelines.validation.room import PodPlan
from pipelines.validation.step import check

MEBIBYTE = 1 << 20


def compiled(folder: Path, settings: RunSettings) -> tuple[dict, str]:
    text = compile_pipeline(settings, folder / "pipeline.yaml").read_text()
    return next(yaml.safe_load_all(text)), text


def tasks(spec: dict) -> dict[str, dict]:
    """The tasks inside the exit handler's group."""
    group = spec["root"]["dag"]["tasks"]["exit-handler-1"]
    return spec["components"][group["componentRef"]["name"]]["dag"]["tasks"]


@pytest.mark.parametrize("preset", ["kill", "laptop", "paper-3b", "paper-7b"])
def test_every_preset_compiles_with_its_rounds_in_a_row(tmp_path: Path, preset: str) -> None:
    settings = build_settings(load_preset(preset))
    spec, _ = compiled(tmp_path, settings)
    names = [task["taskInfo"]["name"] for task in tasks(spec).values() if "parameterIterator" not in task]
    rounds = [f"Round {index}" for index in range(1, settings.pipeline.rounds + 1)]
    assert sorted(names) == sorted(
        ["Check inputs", "Ingest", "Evaluation before", *rounds]
        + ["Evaluation after", "Evaluation of the champion", "Promotion", "Report"]
    )


def test_whatever_happens_the_run_is_closed_by_a_task_that_needs_nothing_of_the_others(tmp_path: Path) -> None:
    spec, _ = compiled(tmp_path, build_settings(load_preset("paper-3b")))
    outer = spec["root"]["dag"]["tasks"]
    assert {task["taskInfo"]["name"] for task in outer.values()} == {"Run", "Close the run"}
    closing = outer["close-run"]
    assert closing["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert closing["inputs"]["parameters"]["status"] == {"taskFinalStatus": {"producerTask": "exit-handler-1"}}
    assert "artifacts" not in closing["inputs"]


def test_the_first_task_knows_the_pods_as_they_are_compiled_in_and_as_the_run_sets_them(tmp_path: Path) -> None:
    settings = build_settings(load_preset("paper-3b"))
    spec, _ = compiled(tmp_path, settings)
    given = tasks(spec)["validate-inputs"]["inputs"]["parameters"]
    assert PodPlan.model_validate_json(given["pods"]["runtimeValue"]["constant"]) == PodPlan.of(settings)
    for name in ("gpu_type", "gpu_tolerations", "generation_node_selector", "training_node_selector"):
        assert given[name] == {"componentInputParameter": f"pipelinechannel--cluster_{name}"}


def test_a_local_run_has_no_exit_handler_and_puts_out_its_report(tmp_path: Path) -> None:
    settings = build_settings(load_preset("laptop"))
    spec = next(yaml.safe_load_all(compile_pipeline(settings, tmp_path / "p.yaml", cluster=False).read_text()))
    assert not [name for name in spec["components"] if "exit-handler" in name or "close-run" in name]
    assert "report" in spec["root"]["outputDefinitions"]["artifacts"]


def test_each_round_takes_policy_state_and_buffer_from_the_one_before(tmp_path: Path) -> None:
    spec, _ = compiled(tmp_path, build_settings({"pipeline.rounds": 3}))
    by_name = {task["taskInfo"]["name"]: (name, task) for name, task in tasks(spec).items()}
    for index in (2, 3):
        before, _ = by_name[f"Round {index - 1}"]
        artifacts = by_name[f"Round {index}"][1]["inputs"]["artifacts"]
        for name in ("policy", "state", "buffer", "reports"):
            source = artifacts[name]["taskOutputArtifact"]
            assert (source["producerTask"], source["outputArtifactKey"]) == (before, name)


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize(("objective", "rollout_policy"), [("reg_grpo", "policy"), ("dpo", "reference")])
def test_a_rounds_responses_come_from_the_policy_that_the_objective_wants(
    tmp_path: Path, objective: str, rollout_policy: str, fuse: bool
) -> None:
    layer = {"pipeline.rounds": 2, "pipeline.fuse_sampling": fuse, "training.objective": objective}
    spec, _ = compiled(tmp_path, build_settings(layer))
    (second,) = (task for task in tasks(spec).values() if task["taskInfo"]["name"] == "Round 2")
    given = second["inputs"]["artifacts"]
    assert given["rollout_policy"] == given[rollout_policy] and given["policy"] != given["reference"]
    inside = spec["components"][second["componentRef"]["name"]]["dag"]["tasks"].values()
    taken = {task["taskInfo"]["name"]: task["inputs"]["artifacts"]["policy"] for task in inside}
    assert taken.pop("Training") == {"componentInputArtifact": "policy"} and len(taken) == (1 if fuse else 3)
    assert all(source == {"componentInputArtifact": "rollout_policy"} for source in taken.values())


@pytest.mark.parametrize("fuse", [True, False])
def test_fifty_rounds_stay_below_one_mebibyte_of_ascii(tmp_path: Path, fuse: bool) -> None:
    _, text = compiled(tmp_path, build_settings({"pipeline.rounds": 50, "pipeline.fuse_sampling": fuse}))
    assert len(text.encode()) < MEBIBYTE
    assert text.isascii()


def test_compiling_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    settings = build_settings(load_preset("laptop"))
    assert compiled(tmp_path / "a", settings)[1] == compiled(tmp_path / "b", settings)[1]


@pytest.mark.parametrize("preset", ["laptop", "paper-3b"])
def test_inputs_are_at_most_25_described_and_default_to_the_settings(tmp_path: Path, preset: str) -> None:
    settings = build_settings(load_preset(preset))
    spec, _ = compiled(tmp_path, settings)
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    pods = pod_inputs(settings)
    assert set(inputs) == {*INPUTS, *pods, OVERRIDES, RUN_NAME, STORE, TRACKING} and len(inputs) <= 25
    described = {path: info.description for path, info in fields()}
    assert all(inputs[name]["description"] == described[POD_INPUTS[name]] for name in pods)
    assert {name: inputs[name]["defaultValue"] for name in pods} == pods
    for name, path in INPUTS.items():
        section, field = path.split(".")
        assert inputs[name]["defaultValue"] == getattr(getattr(settings, section), field)
        assert inputs[name]["description"] == described[path]


def test_enumerations_are_lists_to_choose_from_in_the_ui(tmp_path: Path) -> None:
    for objective, others in (("reg_grpo", {"grpo", "rloo", "online_dpo"}), ("dpo", set())):
        spec, _ = compiled(tmp_path, build_settings({"training.objective": objective, "pipeline.rounds": 1}))
        inputs = spec["root"]["inputDefinitions"]["parameters"]
        assert {objective, *others} <= set(inputs["rl_objective"]["literals"])
        assert ("dpo" in inputs["rl_objective"]["literals"]) == (objective == "dpo")  # it needs another DAG
        assert [name for name, item in inputs.items() if "literals" in item] == ["rl_objective"]


def test_no_task_uses_kfp_caching_or_installs_anything(tmp_path: Path) -> None:
    spec, text = compiled(tmp_path, build_settings(load_preset("paper-3b")))
    inner = [task for part in spec["components"].values() for task in part.get("dag", {}).get("tasks", {}).values()]
    leaves = [task for task in [*inner, *tasks(spec).values()] if not task["taskInfo"]["name"].startswith("Round")]
    assert all(not task.get("cachingOptions", {}).get("enableCache") for task in leaves)
    assert "pip install" not in text
    images = {item["container"]["image"] for item in spec["deploymentSpec"]["executors"].values()}
    assert all(":" in image.rpartition("/")[2] and not image.endswith(":latest") for image in images)


@pytest.mark.parametrize("epochs", [0, 2])
def test_a_warm_up_stands_before_the_rounds_only_where_it_is_asked_for(tmp_path: Path, epochs: int) -> None:
    layer = {"pipeline.rounds": 2, "warmup.num_train_epochs": epochs}
    spec, _ = compiled(tmp_path, build_settings(layer))
    by_name = {task["taskInfo"]["name"]: (name, task) for name, task in tasks(spec).items()}
    assert ("Supervised warm-up" in by_name) == bool(epochs)
    source, key = (by_name["Supervised warm-up"][0], "new_policy") if epochs else (by_name["Ingest"][0], "policy")
    for index in (1, 2):
        given = by_name[f"Round {index}"][1]["inputs"]["artifacts"]
        for name in ("policy", "reference") if index == 1 else ("reference",):
            artifact = given[name]["taskOutputArtifact"]
            assert (artifact["producerTask"], artifact["outputArtifactKey"]) == (source, key)
    evaluated = by_name["Evaluation before"][1]["inputs"]["artifacts"]["policy"]["taskOutputArtifact"]
    assert evaluated["producerTask"] == by_name["Ingest"][0]  # what the run gains counts from the base model


def test_whether_there_is_a_warm_up_cannot_be_changed_for_one_run(tmp_path: Path) -> None:
    compiled_in = build_settings({"warmup.num_train_epochs": 1})
    inputs = {
        name: getattr(getattr(compiled_in, path.split(".")[0]), path.split(".")[1]) for name, path in INPUTS.items()
    }
    inputs |= {STORE: str(tmp_path), TRACKING: "", RUN_NAME: "run"}
    base = compiled_in.model_dump_json()
    settings, _ = check(base, "id", {**inputs, OVERRIDES: "warmup.num_train_epochs: 3"})
    assert settings.warmup.num_train_epochs == 3
    with pytest.raises(SettingsError, match="warmup.num_train_epochs: whether there is a warm-up is compiled in"):
        check(base, "id", {**inputs, OVERRIDES: "warmup.num_train_epochs: 0"})


def test_a_warm_up_alone_is_the_supervised_baseline(tmp_path: Path) -> None:
    spec, _ = compiled(tmp_path, build_settings({"pipeline.rounds": 0, "warmup.num_train_epochs": 3}))
    by_name = {task["taskInfo"]["name"]: (name, task) for name, task in tasks(spec).items()}
    assert not any(name.startswith("Round") for name in by_name)
    after = by_name["Evaluation after"][1]["inputs"]["artifacts"]["policy"]["taskOutputArtifact"]
    assert after["producerTask"] == by_name["Supervised warm-up"][0]
    with pytest.raises(SettingsError, match="pipeline.rounds: 0 leaves a warm-up alone"):
        build_settings({"pipeline.rounds": 0})
