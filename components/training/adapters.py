"""LoRA (Hu et al., arXiv 2106.09685) on the language model's linear layers, by peft: W + alpha / r * B A with W frozen.

In a round the base is the run's first policy and stays apart from the adapter, so that nothing is rounded between rounds:
the adapter's fp32 masters travel in the training state. What a round hands on as its policy is merged, in the base's own
files and types, for engines that know nothing of adapters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from components.shared.context import derived_seed
from components.training.policy import shards
from components.training.state import Adapter

_A, _B = ".lora_A.default.weight", ".lora_B.default.weight"


def add_adapter(model: Any, adapter: Adapter, seed: int) -> None:
    """Put a new adapter on the language model and freeze all else. B is 0: the model says what it said before.

    A is drawn from the run's `seed`, the same in every round. Raises ValueError if the model has no such layer.
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=adapter.r,
        lora_alpha=adapter.alpha,
        lora_dropout=0.0,  # log-ratios must start at 0
        target_modules=list(adapter.target_modules),
    )
    model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, 0, "", "adapter"))
        inject_adapter_in_model(config, model.model.language_model)


@contextmanager
def without_adapter(model: Any) -> Iterator[None]:
    """The base alone inside, whose gradients nobody may ask for."""
    from peft.tuners.lora import LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def merged(base: Path, names: Mapping[str, str], weights: Mapping[str, Tensor], adapter: Adapter) -> dict[str, Tensor]:
    """The adapted layers' weights W + alpha / r * B A in fp32, by the model's names. `names` are `parameter_names`.

    `weights` are the adapter's, fp32 on the CPU; W is read from the base's files, not rounded to the type of training.
    """
    layers = {f"{name.removesuffix(_A)}.weight": name.removesuffix(_A) for name in weights if name.endswith(_A)}
    found = {}
    for shard in shards(base):
        with safe_open(shard, "pt") as file:
            for tensor in file.keys():  # noqa: SIM118 - not a dict
                if (layer := layers.get(names[tensor])) is not None:
                    change = weights[layer + _B] @ weights[layer + _A]
                    found[names[tensor]] = file.get_tensor(tensor).float() + adapter.alpha / adapter.r * change
    return found
