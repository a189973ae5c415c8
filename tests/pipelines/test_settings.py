"""Settings: presets, overrides, and errors that name the field and the allowed range."""

from __future__ import annotations

import pytest

from pipelines.settings import (
    SettingsError,
    build_settings,
    fields,
    load_preset,
    merge,
    parse_assignments,
    parse_overrides,
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
    assert {name for name in plain if plain.count(name) > 1} <= shared_on_purpose


def test_later_layers_win_and_dotted_names_are_sections() -> None:
    layered = merge({"training": {"beta": 0.1, "std_floor": 1.0}}, {"training.beta": 0.2})
    assert layered == {"training": {"beta": 0.2, "std_floor": 1.0}}
    assert parse_overrides("training.beta: 0.3\nsampling: {num_generations: 4}") == {
        "training": {"beta": 0.3},
        "sampling": {"num_generations": 4},
    }


def test_assignments_read_numbers_that_yaml_takes_for_text() -> None:
    assert parse_assignments(["training.learning_rate=1e-4"]) == {"training": {"learning_rate": 1e-4}}


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ({"training.learning_rat": 1.0}, ["training.learning_rat", "no such setting", "training.learning_rate"]),
        ({"sampling.num_generations": 1}, ["sampling.num_generations", ">= 2"]),
        ({"training.objective": "ppo"}, ["training.objective", "reg_grpo"]),
        ({"trainig": {"beta": 1}}, ["trainig", "no such setting", "training"]),
        ({"pipeline.rounds": 51}, ["pipeline.rounds", "<= 50"]),
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


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="laptop"):
        load_preset("desktop")
