"""A run that starts from the registry's champion: what its first task makes of `models:/NAME@ALIAS`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.ingest.base_model import stage_model
from components.ingest.settings import IngestSettings
from components.promotion.registry import register
from components.shared.store import open_store
from components.shared.tracking.client import open_client
from pipelines.inputs import STORE, TRACKING, signature
from pipelines.local_run import with_absolute_paths
from pipelines.settings import SettingsError, build_settings
from pipelines.validation.step import run

CHAMPION = "models:/deepvideo-policy@champion"


def model_of(folder: Path, model: str, uri: str, run_id: str = "run-1") -> str:
    """The base model that the run's later tasks are given."""
    settings = build_settings({"pipeline": {"rounds": 1}})
    inputs = {name: item.default for name, item in signature(settings, {}).parameters.items()}
    inputs |= {STORE: str(folder / "store"), TRACKING: uri, "model_base": model}
    given, _, _ = run(settings.model_dump_json(), run_id, inputs)
    return str(json.loads(given)["ingest"]["model"])


def promote(folder: Path, uri: str, name: str) -> str:
    """Register a policy, the tiny model with a file of its own, as champion; returns its digest."""
    store, client = open_store(str(folder / "store")), open_client(uri)
    stage_model(IngestSettings(), folder / name)
    (folder / name / "LICENSE.txt").write_text(name)
    ref = store.put(folder / name, "policy")
    version = register(client, "deepvideo-policy", ref, name, {}, "")
    client.set_registered_model_alias("deepvideo-policy", "champion", version)
    return ref.digest


def test_a_run_starts_from_the_champion_and_ingest_makes_the_very_same_policy_of_it(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert model_of(tmp_path, f"{CHAMPION} else tiny", uri) == "tiny"  # nothing was promoted yet
    digest = promote(tmp_path, uri, "first")
    found = model_of(tmp_path, f"{CHAMPION} else tiny", uri, "run-2")
    assert found == str(tmp_path / "store" / "policy" / digest)
    stage_model(IngestSettings(model=found), tmp_path / "staged")
    assert open_store(str(tmp_path / "other")).put(tmp_path / "staged", "policy").digest == digest
    promote(tmp_path, uri, "second")
    assert model_of(tmp_path, CHAMPION, uri, "run-2") == found  # the same run, continued
    assert model_of(tmp_path, CHAMPION, uri, "run-3") != found


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (CHAMPION, "points to nothing; say what to start from until a run was promoted"),
        ("models:/deepvideo-policy", "models:/NAME@ALIAS else MODEL"),
        ("models:/deepvideo-policy/3", "models:/NAME@ALIAS else MODEL"),
    ],
)
def test_a_model_that_the_registry_cannot_give_is_refused(tmp_path: Path, model: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        model_of(tmp_path, model, f"sqlite:///{tmp_path}/mlflow.db")


def test_a_folder_after_else_is_made_absolute_for_a_local_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for given, expected in (("mine", str(tmp_path / "mine")), ("tiny", "tiny"), ("a/hub-id", "a/hub-id")):
        settings = with_absolute_paths(build_settings({"ingest": {"model": f"{CHAMPION} else {given}"}}))
        assert settings.ingest.model == f"{CHAMPION} else {expected}"
