"""A video's times reach vLLM's positions as they are, whatever the engine's number format.

vLLM brings all floats that a processor makes to the model's format, among them how long a temporal patch lasts. In
bfloat16 an hour's patch of 480.13 seconds becomes one of 480: positions, rounded down, are then others than the trainer's
for 26 of 40 videos of one to ten minutes, 16 frames each, and for all that last an hour.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

_SECONDS = "second_per_grid_ts"


@functools.cache
def with_exact_times(model_class: Any) -> Any:
    """vLLM's model class, made to keep `second_per_grid_ts` in float32: the same class for the same argument."""
    import torch
    from vllm.multimodal import MULTIMODAL_REGISTRY

    made = model_class._processor_factory

    class ExactTimes(made.processor):  # type: ignore[name-defined]  # a class that is known only now
        def _postprocess_hf_mm_data(
            self, mm_inputs: Mapping[str, Any], hf_processor_mm_kwargs: Mapping[str, object], processed_data: Any
        ) -> Any:
            found = super()._postprocess_hf_mm_data(mm_inputs, hf_processor_mm_kwargs, processed_data)
            if _SECONDS in found:
                patch = self.info.get_hf_processor(**hf_processor_mm_kwargs).video_processor.temporal_patch_size
                rates = [metadata.sampled_fps for metadata in mm_inputs["video_metadata"]]
                found[_SECONDS] = torch.tensor([patch / rate for rate in rates], dtype=torch.float32)
            return found

    subclass = type(model_class.__name__, (model_class,), {"__module__": model_class.__module__})
    register = MULTIMODAL_REGISTRY.register_processor(ExactTimes, info=made.info, dummy_inputs=made.dummy_inputs)
    return register(subclass)
