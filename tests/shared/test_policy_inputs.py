"""The tensors of a prompt are those of the policy's own processor, and its positions those of Qwen2.5-VL."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.augmentation.masking import FRAMES_PER_PATCH
from components.shared.dataset import mask_frames
from components.shared.generation import Prompt
from components.shared.policy_inputs import (
    banned_token_ids,
    encode_prompt,
    eos_token_ids,
    load_processor,
    mrope_positions,
    policy_config,
    prompt_token_ids,
    render,
)
from components.shared.schemas import Sample
from tests.tiny_policies import write_policy_of

POLICY = Path(__file__).parents[2] / "components/ingest/tiny_model/weights"


def make_prompt(frames: int = 8, height: int = 56, width: int = 56, fps: float = 1.0, image: bool = False) -> Prompt:
    rng = np.random.default_rng(0)
    sample = Sample(
        id="q1", video="v1", image="i1" if image else "", question="What moves?", answer="a ball", task="free_form"
    )
    pixels = rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    picture = rng.integers(0, 256, (84, 56, 3), dtype=np.uint8) if image else None
    return Prompt("q1", sample, pixels, fps, hint="look up", image=picture)


@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize("frames, height, width", [(8, 56, 56), (5, 28, 84), (16, 252, 252)])
def test_inputs_are_those_of_the_full_processor(frames: int, height: int, width: int, image: bool) -> None:
    # the reference is the processor's one call, on text with unexpanded pads, resizing off
    processor = load_processor(POLICY)
    prompt = make_prompt(frames, height, width, fps=1.7, image=image)
    metadata = {"fps": 1.7, "total_num_frames": frames, "frames_indices": list(range(frames))}
    reference = processor(
        text=[render(processor, prompt)],
        videos=[prompt.frames],
        images=[prompt.image] if image else None,
        video_metadata=[metadata],
        do_resize=False,
        do_sample_frames=False,
        return_tensors="pt",
    )
    inputs = encode_prompt(processor, prompt)
    assert list(prompt_token_ids(processor, prompt)) == reference["input_ids"][0].tolist()
    assert inputs.mm_token_type_ids.tolist() == reference["mm_token_type_ids"][0].tolist()
    assert inputs.pixel_values_videos.equal(reference["pixel_values_videos"])
    assert inputs.video_grid_thw.equal(reference["video_grid_thw"])
    assert inputs.second_per_grid_ts.tolist() == pytest.approx([2 / 1.7])
    if image:
        assert inputs.pixel_values.equal(reference["pixel_values"])
        assert inputs.image_grid_thw.equal(reference["image_grid_thw"])


def test_a_masked_pair_of_frames_is_nothing_to_the_vision_encoder_and_changes_nothing_else() -> None:
    processor = load_processor(POLICY)
    assert processor.video_processor.temporal_patch_size == FRAMES_PER_PATCH
    prompt = make_prompt(8, 56, 56)
    plain = encode_prompt(processor, prompt)
    masked = encode_prompt(processor, replace(prompt, frames=mask_frames(prompt.frames, (2, 3))))
    assert masked.input_ids.equal(plain.input_ids) and masked.position_ids.equal(plain.position_ids)
    # 56 x 56 pixels are 16 patches of 14 x 14; rows 16 to 31 are the second pair of frames
    pixels = masked.pixel_values_videos
    half_a_grey_level = 0.5 / 255 / min(processor.video_processor.image_std)
    assert pixels[16:32].abs().max() <= half_a_grey_level
    for rows in (slice(0, 16), slice(32, 64)):
        assert pixels[rows].equal(plain.pixel_values_videos[rows])


def test_positions_by_hand() -> None:
    # two text tokens, a video of 3 x 4 x 2 patches (merged: 3 x 2 x 1) at 1.5 positions a patch, one text token
    types = np.array([0, 0, 2, 2, 2, 2, 2, 2, 0])
    positions = mrope_positions(types, {2: (3, 4, 2)}, merge_size=2, time_factor=1.5)
    assert positions.tolist() == [
        [0, 1, 2, 2, 3, 3, 5, 5, 6],  # floor(0, 1.5, 3) + 2; the text goes on at the maximum + 1
        [0, 1, 2, 3, 2, 3, 2, 3, 6],
        [0, 1, 2, 2, 2, 2, 2, 2, 6],
    ]


def test_text_after_the_video_goes_on_after_its_last_temporal_position() -> None:
    # tokens_per_second x 2 frames / fps temporal positions a patch; 4 patches of 2 x 2 merged tokens
    processor = load_processor(POLICY)
    inputs = encode_prompt(processor, make_prompt(fps=0.5))
    video = (inputs.mm_token_type_ids == 2).nonzero().flatten()
    start = int(video[0])
    per_second = policy_config(processor).vision_config.tokens_per_second
    last = start + 3 * 4 * per_second  # the fourth patch starts after three of 2 / 0.5 = 4 seconds
    assert int(inputs.position_ids[0, video[-1]]) == last
    assert inputs.position_ids[:, int(video[-1]) + 1].tolist() == [last + 1] * 3
    assert inputs.next_position == last + 1 + len(inputs.input_ids) - 1 - int(video[-1])


def test_qwen2_vl_counts_temporal_patches_whatever_the_frame_rate(tmp_path: Path) -> None:
    # arXiv 2409.12191 section 2.1: the temporal position goes up by one with each (pair of) frames
    processor = load_processor(write_policy_of("qwen2_vl", tmp_path / "policy", ["What moves? look up"]))
    slow, fast = (encode_prompt(processor, make_prompt(fps=fps, image=True)) for fps in (0.5, 4.0))
    assert slow.position_ids.equal(fast.position_ids) and slow.second_per_grid_ts.tolist() == [4.0]
    video = (slow.mm_token_type_ids == 2).nonzero().flatten()
    start = int(video[0])
    assert (slow.position_ids[0, video] - start).tolist() == [patch for patch in range(4) for _ in range(4)]
    image = (slow.mm_token_type_ids == 1).nonzero().flatten()
    assert slow.position_ids[0, image].unique().tolist() == [int(slow.position_ids[0, image[0] - 1]) + 1]


def test_banned_ids_are_vision_tokens_and_ids_without_a_token() -> None:
    processor = load_processor(POLICY)
    banned = banned_token_ids(processor)
    tokenizer = processor.tokenizer
    for token in ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"):
        assert tokenizer.convert_tokens_to_ids(token) in banned
    assert not set(banned) & {*eos_token_ids(processor), *tokenizer("<think>A ball</think>")["input_ids"]}
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in eos_token_ids(processor)


def test_bad_prompts_are_refused_by_name() -> None:
    processor = load_processor(POLICY)
    good = make_prompt()
    with pytest.raises(ValueError, match="prompt q1: frames of 56 x 60"):
        prompt_token_ids(processor, make_prompt(width=60))
    with pytest.raises(ValueError, match="prompt q1: frames must be uint8"):
        prompt_token_ids(processor, Prompt("q1", good.sample, good.frames.astype(np.float32), 1.0))
    with pytest.raises(ValueError, match="names an image but none is given"):
        prompt_token_ids(processor, Prompt("q1", make_prompt(image=True).sample, good.frames, 1.0))
    with pytest.raises(ValueError, match="vision token of its own"):
        question = good.sample.model_copy(update={"question": "What is <|video_pad|>?"})
        prompt_token_ids(processor, Prompt("q1", question, good.frames, 1.0))


def test_a_folder_that_is_no_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no config.json"):
        load_processor(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(ValueError, match="config.json: model_type is 'qwen2'; supported: qwen2_vl, qwen2_5_vl"):
        load_processor(tmp_path)
