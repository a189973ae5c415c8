"""Writing a policy: the same files, names and types, the vision tower's bytes untouched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.training.policy import (
    copy_weights,
    load_policy,
    parameter_names,
    stored_in_float32,
    trainable,
    write_policy,
)


def test_a_written_policy_differs_in_the_trained_weights_only(policy_folder: Path, tmp_path: Path) -> None:
    model = load_policy(policy_folder, torch.float32)
    trained = {name: parameter.detach() + 1 for name, parameter in trainable(model).items()}
    assert len(trained) > 40 and not any(name.startswith("model.visual.") for name in trained)
    write_policy(policy_folder, tmp_path / "new", parameter_names(model, policy_folder), trained)
    before, after = (load_file(folder / "model.safetensors") for folder in (policy_folder, tmp_path / "new"))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        change = 0.0 if "visual" in name else 1.0
        assert torch.equal(after[name], tensor + change) and after[name].dtype == tensor.dtype
    others = {path.name for path in policy_folder.iterdir()} - {"model.safetensors"}
    assert all((tmp_path / "new" / name).read_bytes() == (policy_folder / name).read_bytes() for name in others)
    again = load_policy(tmp_path / "new", torch.float32)
    for name, parameter in trainable(again).items():
        assert torch.equal(parameter, trained[name])


def test_writing_the_same_weights_gives_the_same_bytes(policy_folder: Path, tmp_path: Path) -> None:
    model = load_policy(policy_folder, torch.float32)
    names = parameter_names(model, policy_folder)
    trained = {name: parameter.detach() for name, parameter in trainable(model).items()}
    for name in ("one", "two"):
        write_policy(policy_folder, tmp_path / name, names, trained)
    assert (tmp_path / "one/model.safetensors").read_bytes() == (tmp_path / "two/model.safetensors").read_bytes()


def test_published_tensor_names_bf16_and_shards_are_kept(policy_folder: Path, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    for path in policy_folder.iterdir():
        if path.name != "model.safetensors":
            (hub / path.name).write_bytes(path.read_bytes())
    tensors = {
        name.replace("model.language_model.", "model.").replace("model.visual.", "visual."): tensor.bfloat16()
        for name, tensor in load_file(policy_folder / "model.safetensors").items()
    }
    halves = sorted(tensors)[::2], sorted(tensors)[1::2]
    for number, half in enumerate(halves, 1):
        save_file(
            {name: tensors[name] for name in half}, hub / f"model-0000{number}-of-00002.safetensors", {"format": "pt"}
        )
    weight_map = {
        name: f"model-0000{number}-of-00002.safetensors" for number, half in enumerate(halves, 1) for name in half
    }
    (hub / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))

    model = load_policy(hub, torch.float32)
    assert not stored_in_float32(hub) and stored_in_float32(policy_folder)
    trained = {name: parameter.detach() + 1 for name, parameter in trainable(model).items()}
    write_policy(hub, tmp_path / "new", parameter_names(model, hub), trained)
    for number, half in enumerate(halves, 1):
        after = load_file(tmp_path / "new" / f"model-0000{number}-of-00002.safetensors")
        assert sorted(after) == sorted(half) and {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    again = load_policy(tmp_path / "new", torch.float32)
    for name, parameter in trainable(again).items():
        assert torch.equal(parameter, trained[name].bfloat16().float())


def test_copying_weights_says_whether_the_vision_tower_changed(policy_folder: Path, tmp_path: Path) -> None:
    model = load_policy(policy_folder, torch.float32)
    assert copy_weights(model, policy_folder) is False
    other = tmp_path / "other"
    other.mkdir()
    tensors = load_file(policy_folder / "model.safetensors")
    name = next(name for name in tensors if "visual" in name)
    save_file({**tensors, name: tensors[name] + 1}, other / "model.safetensors", {"format": "pt"})
    assert copy_weights(model, other) is True


def test_a_weight_that_is_frozen_or_unknown_is_not_written(policy_folder: Path, tmp_path: Path) -> None:
    model = load_policy(policy_folder, torch.float32)
    names = parameter_names(model, policy_folder)
    frozen = next(name for name in names.values() if name.startswith("model.visual."))
    for name in (frozen, "model.nothing.weight"):
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            write_policy(policy_folder, tmp_path / "new", names, {name: torch.zeros(1)})


def test_a_folder_without_safetensors_is_refused(policy_folder: Path, tmp_path: Path) -> None:
    model = load_policy(policy_folder, torch.float32)
    with pytest.raises(ValueError, match="no .safetensors file"):
        parameter_names(model, tmp_path)
