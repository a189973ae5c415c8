"""The files of masters and moments, in checkpoints and in training states: safetensors, tensors by parameter name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from components.training.zero import MOMENTS, gathered_moments

MASTERS = "masters.safetensors"


def save_masters(masters: Mapping[str, Tensor], folder: Path) -> None:
    """Write fp32 weights."""
    save_file(dict(masters), folder / MASTERS)


def load_masters(folder: Path) -> dict[str, Tensor]:
    """The folder's fp32 weights; empty if it holds none."""
    path = folder / MASTERS
    return load_file(path) if path.is_file() else {}


def save_moments(folder: Path, parameters: Mapping[str, Any], *, keep: bool) -> None:
    """Write Adam's moments, one at a time in memory. Every rank must call it; the one with `keep` writes."""
    for name in MOMENTS:
        found = gathered_moments(parameters, name, keep=keep)
        if keep:
            save_file(found, folder / f"{name}.safetensors")


def load_moments(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Adam's moments by their name, each by parameter."""
    return {name: load_file(folder / f"{name}.safetensors") for name in MOMENTS}
