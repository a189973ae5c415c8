"""The frozen vision tower's tokens, made once for the same pixels: all arms see the same videos."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

from jaxtyping import Float
from torch import Tensor

from components.shared.policy_inputs import PromptInputs
from components.training.forward import PackedPolicy

Value = TypeVar("Value")
_KEPT = 8192  # prompts; all the study's own, and the noised ones of some rounds


class Recent(OrderedDict[Hashable, Value]):
    """The last values that were made, by key."""

    def of(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The key's value, made if it is not there."""
        if key not in self:
            self[key] = make()
            if len(self) > _KEPT:
                self.popitem(last=False)
        self.move_to_end(key)
        return self[key]


class SeeingOnce(PackedPolicy):
    """A PackedPolicy that shares its vision tower's tokens with others of the same base. The tower must be the same."""

    seen: Recent[Float[Tensor, "V hidden"]]

    def visual_features(self, prompt: PromptInputs) -> Float[Tensor, "V hidden"]:
        """See `PackedPolicy.visual_features`."""
        pixels = [prompt.pixel_values_videos] + ([] if prompt.pixel_values is None else [prompt.pixel_values])
        parts = [str(part.shape).encode() + part.numpy().tobytes() for part in pixels]
        return self.seen.of(
            hashlib.sha256(b"".join(parts)).digest(), lambda: PackedPolicy.visual_features(self, prompt)
        )
