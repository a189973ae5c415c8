"""A tiny random policy of each family, as `save_pretrained` writes it: about 1.5 M parameters in float32."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_policy_of(model_type: str, folder: Path, corpus: Iterable[str]) -> Path:
    """Write the policy into `folder`. Its tokenizer is trained on `corpus`, its weights are the same every time."""
    import torch

    from components.ingest.tiny_model.build import build_model, build_processor

    processor = build_processor(corpus)
    torch.manual_seed(0)
    model: Any = build_model(processor)
    if model_type == "qwen2_vl":
        processor, model = _qwen2_vl(processor, model)
    assert model.config.model_type == model_type
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _qwen2_vl(processor: Any, model: Any) -> tuple[Any, Any]:
    """Qwen2-VL with the sizes of the tiny Qwen2.5-VL, and a vision tower of its own kind."""
    import torch
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor

    text = model.config.text_config.to_dict()
    text.pop("model_type")
    config = Qwen2VLConfig(
        text_config=text,
        vision_config={
            "depth": 2, "embed_dim": 96, "hidden_size": 128, "mlp_ratio": 2, "num_heads": 3, "patch_size": 14,
            "spatial_merge_size": 2, "temporal_patch_size": 2, "initializer_range": 0.08,
        },
        tie_word_embeddings=True,
        **{name: getattr(model.config, name) for name in (
            "image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"
        )},
    )  # fmt: skip
    made = Qwen2VLForConditionalGeneration._from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    made.generation_config = model.generation_config
    return Qwen2VLProcessor(
        image_processor=processor.image_processor,
        tokenizer=processor.tokenizer,
        video_processor=processor.video_processor,
        chat_template=processor.chat_template,
    ), made
