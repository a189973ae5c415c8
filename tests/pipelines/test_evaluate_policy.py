"""What `deepvideo evaluate --policy` takes, and that a policy's digest is its content's, whatever it is named by."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from components.ingest.base_model import TINY_WEIGHTS, stage_model
from components.ingest.settings import IngestSettings
from components.shared.store import open_store
from pipelines.benchmarking.evaluate import evaluation_settings
from pipelines.benchmarking.policy import resolve_policy
from pipelines.settings import SettingsError


def test_a_folder_and_the_artifact_of_it_are_the_same_policy(tmp_path: Path) -> None:
    stage_model(IngestSettings(model="tiny"), tmp_path / "staged")
    stored = open_store(str(tmp_path / "store")).put(tmp_path / "staged", "policy")
    (tmp_path / "policy.json").write_text(stored.model_dump_json())
    shutil.copytree(TINY_WEIGHTS, tmp_path / "mine")
    (tmp_path / "mine/training_args.bin").write_text("no part of the policy")
    named = [resolve_policy(str(given), "") for given in ("tiny", tmp_path / "policy.json", tmp_path / "mine")]
    assert {policy.digest for policy in named} == {stored.digest}
    assert named[1].folder == tmp_path / "store/policy" / stored.digest


def test_what_is_no_policy_is_refused_with_its_name(tmp_path: Path) -> None:
    stored = {"kind": "dataset", "uri": "file:///nowhere/dataset/0", "digest": "0", "size": 1}
    (tmp_path / "dataset.json").write_text(json.dumps(stored))
    (tmp_path / "other.json").write_text("[]")
    for given, words in {
        str(tmp_path / "dataset.json"): "refers to a dataset",
        str(tmp_path / "other.json"): "is no reference to an artifact",
        str(tmp_path): "neither a model's folder",
        "models:/p@champion else tiny": "without `else`",
    }.items():
        with pytest.raises(SettingsError, match=words):
            resolve_policy(given, "")


def test_the_engine_is_as_long_as_the_model_allows_unless_a_setting_says_otherwise() -> None:
    policy = resolve_policy("tiny", "")
    limit = json.loads((TINY_WEIGHTS / "config.json").read_text())["text_config"]["max_position_embeddings"]
    assert evaluation_settings(policy).generation.max_model_len == limit
    assert evaluation_settings(policy, {"generation.max_model_len": 900}).generation.max_model_len == 900
