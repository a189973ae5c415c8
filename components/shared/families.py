"""The families of models that can be trained: what differs between them, in one place.

A new one is an entry in FAMILIES. Qwen3-VL would also bring features of several depths of its vision tower, which
components/training/forward.py would have to hand on, and timestamps between its frames, which are up to policy_inputs.py.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Family:
    """One architecture. Classes are named, not imported: most of what asks needs neither PyTorch nor vLLM."""

    name: str  # to people
    model_class: str  # of transformers; vLLM knows it by the same name
    vllm_module: str
    vision: str  # prefix of the vision tower's parameters, the merger among them: the part that is frozen
    # how the model calls a tensor, and how files may: as it does, or as the published checkpoints do
    spellings: tuple[tuple[str, str], ...]
    # whether a video's temporal positions count time (by the frames' rate and tokens_per_second) or temporal patches
    timed: bool

    def time_factor(self, config: Any, seconds: float) -> float:
        """How many temporal positions a temporal patch of a video lasts; it shows `seconds` of it."""
        return seconds * config.vision_config.tokens_per_second if self.timed else 1.0

    def vllm_class(self) -> Any:
        """vLLM's model class."""
        return getattr(importlib.import_module(self.vllm_module), self.model_class)


_VISION = "model.visual."
_QWEN_SPELLINGS = (("", ""), ("model.language_model.", "model."), (_VISION, "visual."))

FAMILIES = {  # by config.json's model_type
    "qwen2_vl": Family(  # arXiv 2409.12191
        name="Qwen2-VL",
        model_class="Qwen2VLForConditionalGeneration",
        vllm_module="vllm.model_executor.models.qwen2_vl",
        vision=_VISION,
        spellings=_QWEN_SPELLINGS,
        timed=False,
    ),
    "qwen2_5_vl": Family(  # arXiv 2502.13923
        name="Qwen2.5-VL",
        model_class="Qwen2_5_VLForConditionalGeneration",
        vllm_module="vllm.model_executor.models.qwen2_5_vl",
        vision=_VISION,
        spellings=_QWEN_SPELLINGS,
        timed=True,
    ),
}


def family_of(policy: Path) -> Family:
    """The family of the policy in a folder. Raises ValueError if it has no config.json, or is of none of the families."""
    path = Path(policy) / "config.json"
    if not path.is_file():
        raise ValueError(f"{policy}: no config.json; a policy is a folder as `save_pretrained` writes it")
    return known_family(json.loads(path.read_text()).get("model_type"), path)


def known_family(model_type: object, where: object) -> Family:
    """The family of a model_type. Raises ValueError, naming `where` it stands and what is supported, if it is of none."""
    family = FAMILIES.get(str(model_type))
    if family is None:
        raise ValueError(f"{where}: model_type is {model_type!r}; supported: {', '.join(FAMILIES)}")
    return family
