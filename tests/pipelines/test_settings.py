"""Settings: presets, overrides, and errors that name the field and the allowed range."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.overrides import parse_assignments, parse_overrides, read_overrides
from pipelines.settings import (
    SettingsError,
    allowed_values,
    build_settings,
    fields,
    load_preset,
    merge,
    preset_names,
)


@pytest.mark.parametrize("name", ["kill", "laptop", "paper-3b", "paper-7b"])
def test_every_preset_gives_settings(name: str) -> None:
    assert build_settings(load_preset(name)).pipeline.rounds >= 1


def test_presets_are_those_named_in_the_documentation() -> None:
    assert preset_names() == ["kill", "laptop", "paper-3b", "paper-7b"]


def test_every_setting_has_a_description_and_is_defined_once() -> None:
    names = [name for name, _ in fields()]
    assert all(info.description for _, info in fields())
    plain = [name.split(".")[1] for name in names if "_pods." not in name]  # these are the same for each image
    shared_on_purpose = {"num_generations", "max_completion_length", "dtype", "confidence", "bootstrap_resamples"}
    shared_on_purpose |= {"learning_rate", "lr_scheduler_type"}  # of the warm-up, and of the rounds
    assert {name for name in plain if plain.count(name) > 1} <= shared_on_purpose


def test_later_layers_win_and_dotted_names_are_sections() -> None:
    layered = merge({"training": {"beta": 0.1, "std_floor": 1.0}}, {"training.beta": 0.2})
    assert layered == {"training": {"beta": 0.2, "std_floor": 1.0}}
    assert parse_overrides("training.beta: 0.3\nsampling: {num_generations: 4}") == {
        "training": {"beta": 0.3},
        "sampling": {"num_generations": 4},
    }


def test_assignments_read_numbers_that_yaml_takes_for_text() -> None:
    assert build_settings(parse_assignments(["training.learning_rate=1e-4"])).training.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ({"training.learning_rat": 1.0}, ["training.learning_rat", "no such setting", "training.learning_rate"]),
        ({"sampling.num_generations": 1}, ["sampling.num_generations", ">= 2"]),
        ({"training.objective": "ppo"}, ["training.objective", "reg_grpo"]),
        ({"trainig": {"beta": 1}}, ["trainig", "no such setting", "did you mean training?"]),
        ({"training.num_generations": 4}, ["did you mean sampling.num_generations"]),
        ({"pipeline.rounds": 51}, ["pipeline.rounds", "<= 50"]),
        ({"training.zero_stage": 4}, ["training.zero_stage: got 4; allowed: 1 | 2 | 3"]),
        (
            {"ingest.prompt_template": "video-r1"},
            ["ingest.prompt_template: got 'video-r1'; allowed: deepvideo | seed_bench_r1 | video_r1 | videochat_r1"],
        ),
        ({"training": 5}, ["training: is a section", "got 5"]),
        ({"rewards.reward_funcs": "acc"}, ["rewards.reward_funcs: 'acc' is neither"]),
        (
            {"ingest": {"held_out_fraction": 0.6, "promotion_fraction": 0.6}},
            ["ingest.held_out_fraction + ingest.promotion_fraction must be below 1"],
        ),
        ({"training_pods.memory": "lots"}, ["training_pods.memory", "lots"]),
        ({"training_pods.node_selector": "gpu"}, ["training_pods.node_selector", "'gpu' is not key=value"]),
        ({"cluster.gpu_tolerations": ["gpu"]}, ["cluster.gpu_tolerations", "nvidia.com/gpu:NoSchedule"]),
        ({"cluster.step_overrides": "trainig.cpu=2"}, ["cluster.step_overrides", "no step 'trainig'", "training"]),
        ({"cluster.step_overrides": "training.cpus=2"}, ["cluster.step_overrides", "no such setting", "gpu_count"]),
        ({"cluster.step_overrides": "training.timeout=soon"}, ["cluster.step_overrides", "timeout"]),
        ({"cluster.run_as_user": 0}, ["cluster.run_as_user", ">= 1"]),
    ],
)
def test_wrong_settings_name_the_field_and_what_is_allowed(layer: dict[str, object], words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        build_settings(layer)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "Value error" not in str(caught.value)


def test_each_wrong_setting_says_where_it_was_set(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("training.learning_rat: 1\ntraining: {beta: -1, eta: 2}\n")
    layers = [load_preset("laptop"), read_overrides(file), parse_assignments(["training.eta=0"])]
    with pytest.raises(SettingsError) as caught:
        build_settings(*layers, origins=("", f"{file}: ", "--set "))
    assert sorted(str(caught.value).splitlines()) == [
        "--set training.eta: got 0; allowed: number > 0",
        f"{file}: training.beta: got -1; allowed: number >= 0",
        f"{file}: training.learning_rat: no such setting; did you mean training.learning_rate?",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [("a:\n  b: 1\n c: 2", ["line 3", "not valid YAML"]), ("- 1", ["a mapping"]), ("1: 2", ["a mapping"])],
)
def test_a_file_that_holds_no_settings_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_overrides(file)
    assert all(word in str(caught.value) for word in [str(file), *words]), str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="absent.yaml: there is no such file"):
        read_overrides(tmp_path / "absent.yaml")


@pytest.mark.parametrize("assignment", ["training.beta", "=1", "training=1"])
def test_an_assignment_of_another_form_is_named_with_an_example(assignment: str) -> None:
    with pytest.raises(SettingsError, match=f"--set {assignment}: expected section.field=value"):
        parse_assignments([assignment])


def test_an_assignment_without_its_section_is_told_the_section() -> None:
    with pytest.raises(SettingsError, match="--set rounds: no such setting; did you mean pipeline.rounds?"):
        parse_assignments(["rounds=3"])


@pytest.mark.parametrize(
    ("assignment", "levels"),
    [("L1", ("L1",)), ("L1,L2", ("L1", "L2")), ("[L1, L2]", ("L1", "L2")), ("", ())],
)
def test_a_list_may_be_given_as_one_value_or_with_commas(assignment: str, levels: tuple[str, ...]) -> None:
    layer = parse_assignments([f"evaluation.levels={assignment}"])
    assert build_settings(layer).evaluation.levels == levels


def test_every_setting_says_what_it_allows() -> None:
    assert all(allowed_values(info) for _, info in fields())


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="laptop"):
        load_preset("desktop")


def test_weights_name_their_rewards_also_ones_own_with_dots() -> None:
    over = {"rewards": {"reward_funcs": ["accuracy", "pkg.own:mine"], "reward_weights": {"pkg.own:mine": 2}}}
    assert build_settings(load_preset("laptop"), over).rewards.reward_weights == {"pkg.own:mine": 2.0}
    one = parse_assignments(["rewards.reward_weights={accuracy: 3}"])
    assert build_settings(load_preset("laptop"), one).rewards.reward_weights == {"accuracy": 3.0}
