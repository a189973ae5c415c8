"""Random models of a given shape, on torch and transformers alone."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from components.shared.torchvision_compat import ensure_torchvision
from tests.benchmarks.race.shapes import ModelShape

if find_spec("torchvision"):  # transformers imports it where it is there
    ensure_torchvision()


def _rope(shape: ModelShape) -> dict[str, Any]:
    """Qwen2.5-VL's: of a head's frequencies 2/8 are temporal, 3/8 height, 3/8 width."""
    eighth = shape.head_dim // 16
    sections = [2 * eighth, 3 * eighth, 3 * eighth]
    return {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": sections}


def _text(shape: ModelShape) -> dict[str, Any]:
    return {
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "intermediate_size": shape.intermediate,
        "vocab_size": shape.vocabulary,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 32_768,
    }


def vision_language_model(
    shape: ModelShape, *, seed: int = 0, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Any:
    """A Qwen2.5-VL with random weights, in evaluation mode, without its vision tower: features are made beforehand."""
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLForConditionalGeneration

    config = Qwen2_5_VLConfig(
        text_config={**_text(shape), "rope_parameters": _rope(shape), "bos_token_id": None, "eos_token_id": None},
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "num_heads": 2,
            "intermediate_size": 32,
            "out_hidden_size": shape.hidden,
            "fullatt_block_indexes": [0],
        },
        image_token_id=shape.vocabulary - 2,
        video_token_id=shape.vocabulary - 1,
        vision_start_token_id=shape.vocabulary - 3,
        vision_end_token_id=shape.vocabulary - 4,
        tie_word_embeddings=shape.tied,
        attn_implementation="sdpa",
    )
    torch.manual_seed(seed)
    with torch.device(device):
        model = Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=dtype)
    model.model.visual = None
    return model.eval()


def text_model(shape: ModelShape, *, seed: int = 0) -> Any:
    """A Qwen2 with the weights of `vision_language_model`'s language model: the same layers, text only."""
    from transformers.models.qwen2.configuration_qwen2 import Qwen2Config
    from transformers.models.qwen2.modeling_qwen2 import Qwen2ForCausalLM

    rope = {"rope_type": "default", "rope_theta": _rope(shape)["rope_theta"]}
    config = Qwen2Config(
        **_text(shape), rope_parameters=rope, tie_word_embeddings=shape.tied, attn_implementation="sdpa"
    )
    model = Qwen2ForCausalLM._from_config(config, dtype=torch.float32)
    source = vision_language_model(shape, seed=seed)
    model.model.load_state_dict(source.model.language_model.state_dict())
    if not shape.tied:
        model.lm_head.load_state_dict(source.lm_head.state_dict())
    return model.eval()
