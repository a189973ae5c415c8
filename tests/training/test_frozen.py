"""The proof that training changed nothing else: it sees a single changed bit, whatever wrote it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.training import frozen
from components.training.frozen import tensor_digests, write_trained
from components.training.policy import load_policy, parameter_names, trainable, write_policy


@pytest.fixture(scope="module")
def trained(policy_folder: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """The policy's names, and its language model with other weights."""
    model = load_policy(policy_folder, torch.float32)
    weights = {name: parameter.detach() + 1 for name, parameter in trainable(model).items()}
    return parameter_names(model, policy_folder), weights


def test_the_vision_tower_is_counted_as_unchanged(
    policy_folder: Path, trained: tuple[dict[str, str], dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    tensors = load_file(policy_folder / "model.safetensors")
    vision = [name for name in tensors if "visual" in name]
    assert write_trained(policy_folder, tmp_path / "new", *trained) == len(vision) > 20
    digests = [tensor_digests(folder, tensors) for folder in (policy_folder, tmp_path / "new")]
    assert {name for name in tensors if digests[0][name] == digests[1][name]} == set(vision)


@pytest.mark.parametrize("fault", ["a bit", "the type", "left out"])
def test_a_writer_that_touches_the_vision_tower_is_caught(
    fault: str,
    policy_folder: Path,
    trained: tuple[dict[str, str], dict[str, torch.Tensor]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names, weights = trained
    victim = next(name for name, ours in names.items() if ours.startswith("model.visual.") and name.endswith("bias"))

    def faulty(source: Path, target: Path, *args: dict) -> None:
        write_policy(source, target, *args)
        tensors = load_file(target / "model.safetensors")
        if fault == "a bit":
            tensors[victim] = (tensors[victim].view(torch.int32) ^ 1).view(torch.float32)
        elif fault == "the type":
            tensors[victim] = tensors[victim].bfloat16()
        else:
            del tensors[victim]
        save_file(tensors, target / "model.safetensors", {"format": "pt"})

    monkeypatch.setattr(frozen, "write_policy", faulty)
    with pytest.raises(RuntimeError, match=f"1 frozen tensors.*{victim}"):
        write_trained(policy_folder, tmp_path / "new", names, weights)
