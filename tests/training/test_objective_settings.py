"""Settings and objectives: what an objective does not use is refused, by name, and everything else passes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from components.shared.schemas import ArtifactRef
from components.training.checks import check_sampled_by
from components.training.objectives import OBJECTIVES, ObjectiveName
from components.training.settings import TrainingSettings
from pipelines.inputs import OVERRIDES, RUN_NAME, STORE, TRACKING
from pipelines.settings import RunSettings, SettingsError, build_settings, load_preset, preset_names
from pipelines.validation.step import check

OTHER = {"std_floor": 0.5, "epsilon": 0.1, "epsilon_high": 0.28, "loss_type": "dapo", "eta": 2.0}


@pytest.mark.parametrize("name", OTHER)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_setting_is_taken_by_the_objectives_that_use_it_and_refused_by_the_others(
    objective: ObjectiveName, name: str
) -> None:
    layer = {"training.objective": objective, f"training.{name}": OTHER[name]}
    if name in OBJECTIVES[objective].settings:
        assert getattr(build_settings(layer).training, name) == OTHER[name]
        return
    with pytest.raises(SettingsError) as caught:
        build_settings(layer)
    message = str(caught.value)
    assert message.startswith(f"training.{name}: ") and f"objective {objective} does not use it" in message
    users = [user for user, item in OBJECTIVES.items() if name in item.settings]
    assert users and f"choose one of {', '.join(users)}" in message


def test_every_setting_that_objectives_name_exists() -> None:
    assert (
        set().union(*(item.settings for item in OBJECTIVES.values()))
        == set(OTHER)
        <= set(TrainingSettings.model_fields)
    )


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_runs_with_every_objective_and_travels_as_json(preset: str, objective: ObjectiveName) -> None:
    settings = build_settings(load_preset(preset), {"training.objective": objective})
    travelled = RunSettings.model_validate_json(settings.model_dump_json())
    assert travelled.model_dump() == settings.model_dump()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"objective": "dpo", "beta": 0.0}, ["beta", "dpo", "above 0"]),
        ({"objective": "online_dpo", "beta": 0.0}, ["beta", "online_dpo", "above 0"]),
        ({"objective": "dpo", "kl_reference": "round"}, ["kl_reference", "dpo", "choose online_dpo"]),
        ({"objective": "grpo", "epsilon": 0.0, "epsilon_high": 0.3}, ["epsilon_high", "does not clip"]),
    ],
)
def test_what_an_objective_cannot_do_is_refused(given: dict[str, object], words: list[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        TrainingSettings(**given)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_settings_are_checked_without_pytorch() -> None:
    code = "import sys, components.training.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_dpo_wants_the_references_samples_and_gets_no_others() -> None:
    def ref(digest: str, **metadata: str) -> ArtifactRef:
        return ArtifactRef(kind="groups", uri="", digest=digest, size=0, metadata=metadata)

    reference = ref("a" * 64)
    check_sampled_by(ref("g", policy="a" * 64), reference, "dpo")
    check_sampled_by(ref("g", policy="b" * 64), reference, "online_dpo")
    for groups, named in ((ref("g", policy="b" * 64), "bbbbbbbbbbbb"), (ref("g"), "do not name")):
        with pytest.raises(ValueError, match=named) as caught:
            check_sampled_by(groups, reference, "dpo")
        assert "aaaaaaaaaaaa" in str(caught.value) and "choose online_dpo" in str(caught.value)


def test_a_run_cannot_change_whose_samples_a_compiled_pipeline_takes() -> None:
    compiled = json.dumps(build_settings({"training.objective": "grpo"}).model_dump(mode="json"))

    def override(objective: str) -> str:
        inputs = {STORE: "/s", TRACKING: "", RUN_NAME: "r", OVERRIDES: f"training.objective: {objective}"}
        return check(compiled, "id", inputs)[0].training.objective

    assert override("rebel") == "rebel" and override("online_dpo") == "online_dpo"
    with pytest.raises(SettingsError, match="training.objective: dpo is trained on another policy's samples than grpo"):
        override("dpo")
