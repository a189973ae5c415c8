"""From a Prompt to the tensors that the policy takes: the same for the sampler's check, the trainer and the tests.

Frames are never resized, and positions are computed here: from 5.3 on, transformers' `get_rope_index` lets the text
after a video start at the video's largest *spatial* position + 1. Qwen2-VL and Qwen2.5-VL were trained, and vLLM runs them,
with the largest position of all three axes + 1. Pass `position_ids` to the model explicitly; never let it call `get_rope_index`.
"""

from __future__ import annotations

import functools
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.shared.families import Family, family_of
from components.shared.prompts import BANNED_TOKENS, prompt_text

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Int

    from components.shared.generation import Prompt

# What every call of the processor gets: frames keep their size, and none is dropped.
PROCESSOR_KWARGS: dict[str, Any] = {"do_resize": False, "do_sample_frames": False, "cap_pixels_per_frame": False}

_TEXT, _IMAGE, _VIDEO = 0, 1, 2  # values of mm_token_type_ids
_configs: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()  # a processor does not know its model


@dataclass(frozen=True, eq=False)
class PromptInputs:
    """One prompt as the model takes it, on the CPU. L: prompt tokens; V, I: patches of the video and of the image."""

    input_ids: Int[torch.Tensor, " L"]
    mm_token_type_ids: Int[torch.Tensor, " L"]  # 0 text, 1 image, 2 video
    position_ids: Int[torch.Tensor, "3 L"]  # temporal, height, width
    pixel_values_videos: Float[torch.Tensor, "V patch"]
    video_grid_thw: Int[torch.Tensor, "1 3"]  # in patches
    second_per_grid_ts: Float[torch.Tensor, " 1"]  # Qwen2.5-VL's positions follow it, Qwen2-VL's do not
    pixel_values: Float[torch.Tensor, "I patch"] | None = None
    image_grid_thw: Int[torch.Tensor, "1 3"] | None = None

    @property
    def next_position(self) -> int:
        """The position, equal on all three axes, of the first response token; the i-th has this + i."""
        return int(self.position_ids.max()) + 1


def load_processor(policy: Path) -> Any:
    """The policy's own processor, loaded once a process. Raises ValueError if the folder is no policy of a known family."""
    return _load_processor(Path(policy).resolve())


@functools.lru_cache(maxsize=4)
def _load_processor(policy: Path) -> Any:
    family = family_of(policy)
    from components.shared.torchvision_compat import ensure_torchvision

    ensure_torchvision()
    from transformers import AutoConfig, AutoProcessor, GenerationConfig

    config = AutoConfig.from_pretrained(policy, local_files_only=True)
    processor = AutoProcessor.from_pretrained(policy, local_files_only=True)
    generation = None
    if (policy / "generation_config.json").is_file():
        generation = GenerationConfig.from_pretrained(policy, local_files_only=True)
    _configs[processor] = family, config, generation
    return processor


def policy_family(processor: Any) -> Family:
    """The family of the model that belongs to a processor from `load_processor`."""
    return _configs_of(processor)[0]


def policy_config(processor: Any) -> Any:
    """The model's configuration that belongs to a processor from `load_processor`."""
    return _configs_of(processor)[1]


def _configs_of(processor: Any) -> tuple[Family, Any, Any]:
    try:
        return _configs[processor]
    except KeyError:
        raise ValueError("this processor was not made by policy_inputs.load_processor") from None


def banned_token_ids(processor: Any) -> tuple[int, ...]:
    """Ids that are never sampled, ascending: vision tokens, and logits beyond the tokenizer's vocabulary.

    The trainer masks the same ids in its log-softmax.
    """
    return _banned_token_ids(processor)


@functools.lru_cache(maxsize=4)
def _banned_token_ids(processor: Any) -> tuple[int, ...]:
    tokenizer = processor.tokenizer
    vision = {tokenizer.convert_tokens_to_ids(token) for token in BANNED_TOKENS}
    known = set(tokenizer.get_vocab().values())
    vocabulary = policy_config(processor).get_text_config().vocab_size
    return tuple(sorted(vision | (set(range(vocabulary)) - known)))


def eos_token_ids(processor: Any) -> tuple[int, ...]:
    """Ids that end a response, ascending: the tokenizer's and those of the policy's generation_config.json."""
    _, _, generation = _configs_of(processor)
    named = generation.eos_token_id if generation is not None else None
    ids = named if isinstance(named, list) else [] if named is None else [named]
    return tuple(sorted({processor.tokenizer.eos_token_id, *ids}))


def prompt_token_ids(processor: Any, prompt: Prompt) -> tuple[int, ...]:
    """The prompt's token ids with its vision pads expanded, from the text and the frames' shape alone.

    Raises ValueError, naming the prompt, if frames or image have a type or a size that the model cannot take.
    """
    video = _grid(processor, prompt, prompt.frames, "frames")
    pads = {processor.video_token_id: _merged(processor, video)}
    if prompt.image is not None:
        pads[processor.image_token_id] = _merged(processor, _grid(processor, prompt, prompt.image[None], "image"))
    text_ids = _text_token_ids(processor, render(processor, prompt))
    if any(text_ids.count(pad) != 1 for pad in pads) or (prompt.image is None and processor.image_token_id in text_ids):
        raise ValueError(f"prompt {prompt.key}: its text holds a vision token of its own; take it out of the question")
    ids: list[int] = []
    for token in text_ids:
        ids.extend([token] * pads.get(token, 1))
    return tuple(ids)


def render(processor: Any, prompt: Prompt) -> str:
    """The prompt as text, one pad token a video or image. Raises ValueError if image and sample do not agree."""
    if bool(prompt.sample.image) != (prompt.image is not None):
        there = "names an image but none is given" if prompt.image is None else "names no image but one is given"
        raise ValueError(f"prompt {prompt.key}: its sample {there}")
    return prompt_text(processor, prompt.sample, prompt.hint, prompt.given_answer)


@functools.lru_cache(maxsize=4096)
def _text_token_ids(processor: Any, text: str) -> tuple[int, ...]:
    return tuple(processor.tokenizer(text)["input_ids"])


def _grid(processor: Any, prompt: Prompt, frames: np.ndarray, name: str) -> tuple[int, int, int]:
    """Patches along time, height and width. An odd number of frames is filled up with the last one."""
    sizes = processor.video_processor
    factor = sizes.patch_size * sizes.merge_size
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise ValueError(f"prompt {prompt.key}: {name} must be uint8 RGB, got {frames.dtype} of shape {frames.shape}")
    count, height, width, _ = frames.shape
    if height % factor or width % factor:
        raise ValueError(
            f"prompt {prompt.key}: {name} of {height} x {width} pixels, they must be multiples of {factor}"
        )
    return -(-count // sizes.temporal_patch_size), height // sizes.patch_size, width // sizes.patch_size


def _merged(processor: Any, grid: tuple[int, int, int]) -> int:
    time, height, width = grid
    return time * height * width // processor.video_processor.merge_size**2


def mrope_positions(
    token_types: np.ndarray, grids: dict[int, tuple[int, int, int]], merge_size: int, time_factor: float
) -> np.ndarray:
    """M-RoPE positions, arXiv 2409.12191 section 2.1 and 2502.13923 section 2.1.2: int64 (3, L), temporal, height, width.

    `token_types` (L,) is 0 for text, 1 for the image and 2 for the video; `grids` are the patches of each along time,
    height and width; `time_factor` is how many temporal positions a temporal patch of the video lasts. Temporal
    positions are rounded down.
    """
    positions = np.zeros((3, len(token_types)), dtype=np.int64)
    borders = np.flatnonzero(np.diff(token_types)) + 1
    start = 0
    for index in np.split(np.arange(len(token_types)), borders):
        kind = int(token_types[index[0]])
        if kind == _TEXT:
            block = np.broadcast_to(np.arange(len(index)), (3, len(index)))
        else:
            time, height, width = grids[kind]
            block = np.indices((time, height // merge_size, width // merge_size)).reshape(3, -1)
            if kind == _VIDEO:
                block[0] = np.floor(block[0] * time_factor).astype(np.int64)
        positions[:, index] = start + block
        start = int(positions[:, index].max()) + 1
    return positions


def encode_prompt(processor: Any, prompt: Prompt) -> PromptInputs:
    """All that the model's forward takes for one prompt. Raises ValueError, naming the prompt, on bad input."""
    import torch

    ids = torch.tensor(prompt_token_ids(processor, prompt), dtype=torch.int64)
    grids = {_VIDEO: _grid(processor, prompt, prompt.frames, "frames")}
    video = processor.video_processor(videos=[prompt.frames], return_tensors="pt", **PROCESSOR_KWARGS)
    _check_grid(prompt, video["video_grid_thw"], grids[_VIDEO])
    image: dict[str, Any] = {}
    if prompt.image is not None:
        grids[_IMAGE] = _grid(processor, prompt, prompt.image[None], "image")
        image = processor.image_processor(images=[prompt.image], do_resize=False, return_tensors="pt")
        _check_grid(prompt, image["image_grid_thw"], grids[_IMAGE])
    types = torch.zeros_like(ids)
    types[ids == processor.image_token_id] = _IMAGE
    types[ids == processor.video_token_id] = _VIDEO
    seconds = torch.tensor([processor.video_processor.temporal_patch_size / prompt.fps])  # float32, as vLLM gets it
    factor = policy_family(processor).time_factor(policy_config(processor), seconds.item())
    positions = mrope_positions(types.numpy(), grids, processor.video_processor.merge_size, factor)
    return PromptInputs(
        input_ids=ids,
        mm_token_type_ids=types,
        position_ids=torch.from_numpy(positions),
        pixel_values_videos=video["pixel_values_videos"],
        video_grid_thw=video["video_grid_thw"],
        second_per_grid_ts=seconds,
        pixel_values=image.get("pixel_values"),
        image_grid_thw=image.get("image_grid_thw"),
    )


def _check_grid(prompt: Prompt, got: torch.Tensor, expected: tuple[int, int, int]) -> None:
    if tuple(got[0].tolist()) != expected:
        raise RuntimeError(f"prompt {prompt.key}: the processor made a grid of {got[0].tolist()}, expected {expected}")


def model_inputs(inputs: PromptInputs, device: torch.device | str) -> dict[str, torch.Tensor]:
    """The keyword arguments of the transformers model's forward for this one prompt: a batch of one row."""
    named = {
        "input_ids": inputs.input_ids[None],
        "position_ids": inputs.position_ids[:, None],
        "mm_token_type_ids": inputs.mm_token_type_ids[None],
        "pixel_values_videos": inputs.pixel_values_videos,
        "video_grid_thw": inputs.video_grid_thw,
        "pixel_values": inputs.pixel_values,
        "image_grid_thw": inputs.image_grid_thw,
    }
    return {name: value.to(device) for name, value in named.items() if value is not None}
