"""The untrained tiny model: tokenizer, processor and randomly initialised Qwen2.5-VL."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import torch

from components.shared.torchvision_compat import ensure_torchvision

ensure_torchvision()

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers  # noqa: E402
from transformers import (  # noqa: E402
    GenerationConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

VOCABULARY = 576
INIT_STD = 0.08  # at this width 0.02 does not learn at all
SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
MARKUP = ("<think>", "</think>", "<answer>", "</answer>")  # one token each, but ordinary text: decoding keeps them
FRAME_SIZE = 56
_PIXELS = {"shortest_edge": FRAME_SIZE**2, "longest_edge": 448**2}
# Qwen's own splitting of text, in which every digit stands alone
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_processor(corpus: Iterable[str]) -> Qwen2_5_VLProcessor:
    """A processor whose byte-level BPE of VOCABULARY tokens is trained on `corpus`; 56 x 56 frames keep their size."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL_TOKENS) - len(MARKUP),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    options: dict[str, Any] = {
        "vocab": learned["vocab"], "merges": [tuple(pair) for pair in learned["merges"]],
        "unk_token": None, "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
        "additional_special_tokens": list(SPECIAL_TOKENS), "model_max_length": 2048,
    }  # fmt: skip
    fast = Qwen2Tokenizer(**options)
    fast.add_tokens(list(MARKUP))
    settings = {"size": _PIXELS, "patch_size": 14, "merge_size": 2, "temporal_patch_size": 2}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**settings),
        tokenizer=fast,
        video_processor=Qwen2VLVideoProcessor(**settings, do_sample_frames=False, cap_pixels_per_frame=False),
        chat_template=CHAT_TEMPLATE,
    )


def build_model(processor: Qwen2_5_VLProcessor) -> Qwen2_5_VLForConditionalGeneration:
    """A randomly initialised model for `processor`; the caller seeds torch."""
    token = processor.tokenizer.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(  # type: ignore[call-arg]  # further fields go to its base class
        text_config={
            "vocab_size": VOCABULARY, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
            "initializer_range": INIT_STD, "tie_word_embeddings": True, "rope_theta": 10000.0,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
            "bos_token_id": None, "eos_token_id": token("<|im_end|>"), "pad_token_id": token("<|endoftext|>"),
        },
        vision_config={
            "depth": 3, "hidden_size": 96, "intermediate_size": 256, "num_heads": 3, "out_hidden_size": 128,
            "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112,
            "fullatt_block_indexes": [2], "tokens_per_second": 1, "initializer_range": INIT_STD,
        },
        image_token_id=token("<|image_pad|>"), video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"), vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True, initializer_range=INIT_STD,
    )  # fmt: skip
    model = Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=64,
        eos_token_id=[token("<|im_end|>"), token("<|endoftext|>")], pad_token_id=token("<|endoftext|>"),
    )  # fmt: skip
    return model
