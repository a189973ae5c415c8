"""A policy's files: reading the model, copying weights in, writing a policy with the same files, names and types."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from components.shared.families import family_of, known_family
from components.shared.transformers_class import transformers_class


def load_policy(folder: Path, dtype: torch.dtype, *, gradient_checkpointing: bool = False) -> Any:
    """The model in `folder`, its vision tower (with the merger) frozen, without dropout.

    Raises ValueError if the folder's model is of no known family, lacks a weight or uses sliding windows.
    """
    family = family_of(folder)
    loaded: Any = transformers_class(family).from_pretrained(
        folder, dtype=dtype, attn_implementation="sdpa", local_files_only=True, output_loading_info=True
    )
    model, info = loaded
    if info["missing_keys"]:
        raise ValueError(f"{folder}: no weights for {sorted(info['missing_keys'])[:5]}")
    text = model.config.get_text_config()
    if set(text.layer_types) != {"full_attention"}:
        raise ValueError(
            f"{folder / 'config.json'}: layer_types must all be full_attention; set use_sliding_window to false"
        )
    for module in model.modules():  # so that training mode, which checkpointing needs, changes no number
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(family.vision))
    model.eval()
    if gradient_checkpointing:
        model.model.language_model.gradient_checkpointing_enable({"use_reentrant": False})
        model.model.language_model.train()
    return model


def shards(folder: Path) -> list[Path]:
    """The folder's safetensors files, sorted. Raises ValueError if there is none."""
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise ValueError(
            f"{folder}: no .safetensors file; convert the weights with save_pretrained(safe_serialization=True)"
        )
    return found


def parameter_names(model: Any, folder: Path) -> dict[str, str]:
    """File tensor -> the model's name for it, tied ones by their first. Raises ValueError if one is not the model's."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    known = {name: first[id(parameter)] for name, parameter in model.named_parameters(remove_duplicate=False)}
    names, family = {}, known_family(model.config.model_type, folder)
    for shard in shards(folder):
        with safe_open(shard, "pt") as file:
            tensors = list(file.keys())
        for tensor in tensors:
            spelled = [
                ours + tensor.removeprefix(theirs) for ours, theirs in family.spellings if tensor.startswith(theirs)
            ]
            found = [known[name] for name in spelled if name in known]
            if not found:
                raise ValueError(f"{shard}: tensor {tensor} is none of a {family.name}'s")
            names[tensor] = found[0]
    return names


@torch.no_grad()
def copy_weights(model: Any, folder: Path) -> bool:
    """Copy a policy's weights into the model. Returns whether that changed the frozen ones."""
    parameters = dict(model.named_parameters())
    names = parameter_names(model, folder)
    changed = False
    for shard in shards(folder):
        for tensor, stored in load_file(shard).items():
            parameter = parameters[names[tensor]]
            value = stored.to(parameter)
            changed |= not parameter.requires_grad and not torch.equal(parameter, value)
            parameter.copy_(value)
    return changed


def write_policy(source: Path, target: Path, names: Mapping[str, str], trained: Mapping[str, Tensor]) -> None:
    """Write `source` again as `target` with the `trained` weights (fp32, by the model's names) in place of its own.

    Every other file and tensor is copied, so the vision tower's bytes stay; a trained tensor keeps its name, type and
    file. `names` are `parameter_names`. Raises ValueError if a trained weight has no place in `source` or is frozen.
    """
    vision = family_of(source).vision
    if wrong := [name for name in trained if name not in names.values() or name.startswith(vision)]:
        raise ValueError(
            f"{source}: {sorted(wrong)[:5]} cannot be written: not in its files, or part of the vision tower"
        )
    weights = shards(source)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("manifest.json", *(shard.name for shard in weights)))
    for shard in weights:
        tensors = load_file(shard)
        for tensor, old in tensors.items():
            if (new := trained.get(names[tensor])) is not None:
                tensors[tensor] = new.to(old.dtype).contiguous()
        save_file(tensors, target / shard.name, metadata={"format": "pt"})


def stored_in_float32(folder: Path) -> bool:
    """Whether all of the folder's tensors are fp32: then the files are the master weights."""
    for shard in shards(folder):
        with safe_open(shard, "pt") as file:
            if any(file.get_slice(tensor).get_dtype() != "F32" for tensor in file.keys()):  # noqa: SIM118 - not a dict
                return False
    return True


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trained parameters by the model's names, a tied one once."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
