"""What DeepSpeed is told for each ZeRO stage and kind of offload, read by DeepSpeed's own settings."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from components.training.settings import TrainingSettings
from components.training.zero import engine_config


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize(
    "offload", [(), ("offload_optimizer",), ("offload_param",), ("offload_optimizer", "offload_param")]
)
def test_stage_and_offload_reach_deepspeed(stage: int, offload: tuple[str, ...]) -> None:
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    given = {"zero_stage": stage, **dict.fromkeys(offload, True)}
    if "offload_param" in offload and stage != 3:
        with pytest.raises(ValidationError, match="offload_param\n.*set zero_stage to 3"):
            TrainingSettings(**given)
        return
    read = DeepSpeedZeroConfig(**engine_config(TrainingSettings(**given), 1000)["zero_optimization"])
    assert read.stage == stage
    for name in ("offload_optimizer", "offload_param"):
        found = getattr(read, name)
        assert (found is not None and found.device == "cpu") if name in offload else found is None
