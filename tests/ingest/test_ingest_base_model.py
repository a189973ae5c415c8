"""The base model enters the store only whole, supported, and without anything that could run code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.ingest.base_model import model_stamp, stage_model
from components.ingest.errors import IngestError
from components.ingest.settings import IngestSettings

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def stage(model: object, folder: Path, **changes: object) -> dict:
    return stage_model(IngestSettings(model=str(model), **changes), folder / "staged")


def test_weights_configuration_and_licence_are_copied_and_nothing_else(policy_folder, tmp_path):
    for name in ("training_args.bin", "modeling_custom.py", "README.md", "LICENSE"):
        (policy_folder / name).write_text("x")
    (policy_folder / "checkpoint-1").mkdir()
    (policy_folder / "checkpoint-1" / "optimizer.pt").write_text("x")
    metadata = stage(policy_folder, tmp_path)
    assert {path.name for path in (tmp_path / "staged").iterdir()} == {
        "LICENSE", "chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json",
    }  # fmt: skip
    assert metadata == {"source": str(policy_folder), "revision": "", "model_type": "qwen2_5_vl"}
    assert (policy_folder / "model.safetensors").is_file()  # the user's folder is left as it was


def test_pickled_weights_are_refused(policy_folder, tmp_path):
    (policy_folder / "model.safetensors").rename(policy_folder / "pytorch_model.bin")
    with pytest.raises(IngestError, match="only pytorch_model.bin, which may run code when read"):
        stage(policy_folder, tmp_path)


def test_weights_cut_short_are_refused(policy_folder, tmp_path):
    whole = (policy_folder / "model.safetensors").read_bytes()
    (policy_folder / "model.safetensors").write_bytes(whole[:-8])
    with pytest.raises(IngestError, match="model.safetensors of .* is damaged"):
        stage(policy_folder, tmp_path)


def test_a_missing_shard_is_named(policy_folder, tmp_path):
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}
    (policy_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(IngestError, match="lacks model-00002.safetensors, named in model.safetensors.index.json"):
        stage(policy_folder, tmp_path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_missing_file_is_named(policy_folder, tmp_path, name):
    (policy_folder / name).unlink()
    with pytest.raises(IngestError, match=f"has no {name}"):
        stage(policy_folder, tmp_path)


def test_another_kind_of_model_is_refused(policy_folder, tmp_path):
    (policy_folder / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(IngestError, match="has model_type 'llama'; supported: qwen2_vl, qwen2_5_vl"):
        stage(policy_folder, tmp_path)


@pytest.mark.parametrize("revision", ["", "main"])
def test_a_hub_id_needs_a_commit(tmp_path, revision):
    with pytest.raises(IngestError, match="set ingest.model_revision to a commit"):
        stage("some-org/some-model", tmp_path, model_revision=revision)


def test_a_model_that_is_nothing_known_is_refused(tmp_path):
    with pytest.raises(IngestError, match="is no folder, s3:// URI or hub id"):
        stage("/no/such/folder", tmp_path)


def test_a_revision_beside_a_folder_is_refused(policy_folder, tmp_path):
    with pytest.raises(IngestError, match="model_revision: belongs to a hub id"):
        stage(policy_folder, tmp_path, model_revision=COMMIT)


def test_the_stamp_follows_the_content(policy_folder):
    settings = IngestSettings(model=str(policy_folder))
    before = model_stamp(settings)
    assert before == model_stamp(settings)
    (policy_folder / "config.json").write_text((policy_folder / "config.json").read_text() + " ")
    assert model_stamp(settings) != before
    assert COMMIT in model_stamp(IngestSettings(model="org/model", model_revision=COMMIT))


def test_a_hub_model_comes_from_the_hubs_cache_at_its_commit(policy_folder, tmp_path):
    # the hub's client reads its settings when it is imported, hence a process of its own
    snapshot = tmp_path / "hub" / "models--org--model" / "snapshots" / COMMIT
    snapshot.parent.mkdir(parents=True)
    policy_folder.rename(snapshot)
    program = (
        "import sys; from pathlib import Path; from components.ingest.settings import IngestSettings\n"
        "from components.ingest.base_model import stage_model\n"
        "settings = IngestSettings(model=sys.argv[1], model_revision=sys.argv[2])\n"
        "print(stage_model(settings, Path(sys.argv[3])))"
    )

    def run(commit: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", program, "org/model", commit, str(tmp_path / "staged")],
            env={**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"},
            cwd=Path(__file__).parents[2], capture_output=True, text=True,
        )  # fmt: skip

    found = run(COMMIT)
    assert f"'revision': '{COMMIT}'" in found.stdout, found.stderr
    assert (tmp_path / "staged" / "model.safetensors").is_file()
    assert f"org/model at {COMMIT[::-1]} could not be taken from the hub" in run(COMMIT[::-1]).stderr
