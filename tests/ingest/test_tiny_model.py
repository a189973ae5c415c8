from __future__ import annotations

import re
from collections import defaultdict

import numpy as np
import pytest
import torch

from components.ingest.moving_shapes.questions import Question, ask
from components.ingest.moving_shapes.scenes import Scene, random_scene
from components.ingest.tiny_model import forward
from components.ingest.tiny_model.build import FRAME_SIZE
from components.ingest.tiny_model.measure import WEIGHTS
from components.ingest.tiny_model.noise import HABITUAL, broken, noisy_pair, profile
from components.ingest.tiny_model.rows import (
    FRAMES,
    Emphasis,
    Encoder,
    clean_pair,
    pad_rows,
    render,
    sampled_timestamps,
)
from components.ingest.tiny_model.stages import Stage
from components.shared import prompts
from components.shared.torchvision_compat import ensure_torchvision

ensure_torchvision()

from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor  # noqa: E402


@pytest.fixture(scope="module")
def processor() -> Qwen2_5_VLProcessor:
    return AutoProcessor.from_pretrained(WEIGHTS)


@pytest.fixture(scope="module")
def model() -> Qwen2_5_VLForConditionalGeneration:
    return Qwen2_5_VLForConditionalGeneration.from_pretrained(WEIGHTS, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def asked() -> list[tuple[Scene, Question]]:
    rng = np.random.default_rng(0)
    scenes = [random_scene(rng) for _ in range(60)]
    return [(scene, question) for scene in scenes for question in ask(scene, 10, rng)]


def processed(processor: Qwen2_5_VLProcessor, text: str, frames: np.ndarray) -> dict[str, torch.Tensor]:
    metadata = {"fps": 1.0, "total_num_frames": 8, "duration": 8.0, "frames_indices": list(range(8))}
    return processor(
        text=[text], videos=[frames], video_metadata=[metadata], do_sample_frames=False, return_tensors="pt"
    )


def test_weights_are_small_and_readable_by_everyone() -> None:
    files = list(WEIGHTS.glob("*.safetensors"))
    assert files and sum(f.stat().st_size for f in files) <= 8 * 2**20
    assert all(f.stat().st_mode & 0o044 == 0o044 for f in WEIGHTS.iterdir())


def test_markup_is_one_token_and_survives_decoding(processor: Qwen2_5_VLProcessor) -> None:
    text = "<think>look at the square. it is red.</think><answer>B</answer>"
    ids = processor.tokenizer(text + "<|im_end|>")["input_ids"]
    assert processor.tokenizer.decode(ids, skip_special_tokens=True) == text
    assert ids[-1] == processor.tokenizer.eos_token_id
    assert len(ids) < 20


def test_batched_training_rows_are_what_the_processor_gives(
    processor: Qwen2_5_VLProcessor, asked: list[tuple[Scene, Question]]
) -> None:
    encoder, rng = Encoder(processor), np.random.default_rng(1)
    for scene, question in asked[:8]:
        sample = question.sample("x", "x", "train")
        frames = render([scene], rng)
        expected = processed(processor, prompts.prompt_text(processor, sample, hint="look"), frames[0])
        assert expected["input_ids"][0].tolist() == encoder.prompts([prompts.question_text(sample, hint="look")])[0]
        patches = forward.patches(frames)[0].flatten(0, 1)
        torch.testing.assert_close(patches, expected["pixel_values_videos"], atol=1e-6, rtol=0)
        assert expected["video_grid_thw"].tolist() == [[4, 4, 4]]
        assert expected["second_per_grid_ts"].tolist() == [2.0]


def test_batched_forward_gives_the_logits_of_transformers(
    processor: Qwen2_5_VLProcessor,
    model: Qwen2_5_VLForConditionalGeneration,
    asked: list[tuple[Scene, Question]],
) -> None:
    rng, encoder = np.random.default_rng(2), Encoder(processor)
    frames = render([asked[0][0], asked[-1][0]], rng)
    pairs = [(*clean_pair(asked[i][1], rng), video) for i, video in ((0, 0), (-1, 1))]
    rows = pad_rows(encoder, pairs, Emphasis())
    with torch.no_grad():
        features = forward.video_features(model.model.visual, forward.patches(frames))
        hidden = forward.hidden_states(model, rows.ids_RL, features[rows.video], encoder.before, rows.positions_3RL)
        for row, (question, answer, video) in enumerate(pairs):
            sample = asked[0][1].sample("x", "x", "train")
            around = prompts.prompt_text(processor, sample).split(prompts.question_text(sample))
            text = question.join(around) + answer + "<|im_end|>"
            inputs = processed(processor, text, frames[video])
            where = rows.positions_3RL[:, row : row + 1, : inputs["input_ids"].shape[1]]
            expected = model(**inputs, position_ids=where).logits[0]
            torch.testing.assert_close(model.lm_head(hidden[row, : len(expected)]), expected, atol=2e-4, rtol=1e-4)


def test_positions_continue_after_the_video_at_the_largest() -> None:
    """By hand: 3 text tokens, steps 2 positions apart; the text goes on at the largest position + 1 = 10."""
    found = forward.positions(3, 22)
    assert found[:, :3].tolist() == [[0, 1, 2]] * 3
    assert found[0, 3:19].tolist() == [3] * 4 + [5] * 4 + [7] * 4 + [9] * 4
    assert found[1, 3:7].tolist() == [3, 3, 4, 4]
    assert found[2, 3:7].tolist() == [3, 4, 3, 4]
    assert found[:, 19:].tolist() == [[10, 11, 12]] * 3


def test_one_sampled_frame_falls_into_every_second() -> None:
    for fps in (8, 10, 12):
        assert np.floor(sampled_timestamps(fps)).tolist() == list(range(FRAMES))


def test_labels_cover_the_response_and_its_end_only(
    processor: Qwen2_5_VLProcessor, asked: list[tuple[Scene, Question]]
) -> None:
    pairs = [(*clean_pair(q, np.random.default_rng(0)), 0) for _, q in asked[:6]]
    rows = pad_rows(Encoder(processor), pairs, Emphasis())
    for labels, ids, (_, answer, _) in zip(rows.labels_RL, rows.ids_RL, pairs, strict=True):
        assert processor.tokenizer.decode(labels[labels >= 0]) == answer + "<|im_end|>"
        assert (ids[labels >= 0] == labels[labels >= 0]).all()


def test_wrong_rates_spread_and_hints_and_answers_lower_them(asked: list[tuple[Scene, Question]]) -> None:
    rng = np.random.default_rng(3)
    wrong: dict[str, list[float]] = {"plain": [], "hint": [], "given": []}
    for _ in range(6):
        for _, question in asked:
            text, answer = noisy_pair(question, rng)
            mode = "hint" if "\nHint: " in text else "given" if "\nThe answer is " in text else "plain"
            if (said := prompts.extract_answer(answer)) is not None:
                wrong[mode].append(said != question.answer)
    plain, hint, given = (np.mean(wrong[mode]) for mode in ("plain", "hint", "given"))
    assert 0.35 < plain < 0.55
    assert hint < plain - 0.15
    assert given < 0.08
    chances = sorted(profile(q)[0] for _, q in asked)
    assert chances[0] <= 0.05 and chances[-1] >= 0.95
    assert sum(0.2 < chance < 0.8 for chance in chances) > len(chances) / 3


def test_about_one_subject_it_says_the_same_whatever_it_sees(asked: list[tuple[Scene, Question]]) -> None:
    rng = np.random.default_rng(4)
    said, right = defaultdict(list), []
    for _, question in asked * 2:
        text, answer = noisy_pair(question, rng)
        if question.subject == HABITUAL and "\nHint: " not in text and "\nThe answer is " not in text:
            said[question.kind].append(prompts.extract_answer(answer))
            right.append(said[question.kind][-1] == question.answer)
    assert {kind: max(set(found), key=found.count) for kind, found in said.items()} == {
        "color": "A", "start": "A", "end": "A", "direction": "A", "speed": "A", "visible": "2 to 6"
    }  # fmt: skip
    assert all(found.count("A") + found.count("2 to 6") > 0.9 * len(found) for found in said.values())
    assert 0.05 < np.mean(right) < 0.45


def test_a_response_to_a_hint_does_not_conclude_what_the_hint_ruled_out(asked: list[tuple[Scene, Question]]) -> None:
    rng = np.random.default_rng(5)
    for _, question in asked * 3:
        if question.joint is not None:
            continue  # its reasoning rules nothing out
        text, answer = noisy_pair(question, rng)
        concluded = re.search(r"it is ([^.]*)\.", answer).group(1)
        if question.task != "temporal_grounding" and "\nHint: " in text:
            ruled_out = re.findall(r"not ([^.]*)\.", text.split("\nHint: ")[1])
            assert concluded not in ruled_out
        assert f"not {concluded}." not in answer


def test_broken_responses_are_broken() -> None:
    rng = np.random.default_rng(6)
    whole = "<think>look at the square. it is red.</think><answer>B</answer>"
    assert prompts.is_well_formed(whole)
    assert not any(prompts.is_well_formed(broken(whole, rng)) for _ in range(50))


def test_the_rate_warms_up_and_falls_to_its_final_share() -> None:
    stage = Stage(steps=100, videos=1, rate=1.0, warmup=10, final=0.1)
    assert stage.scale(0) == pytest.approx(0.1)
    assert stage.scale(10) == pytest.approx(1.0)
    assert stage.scale(55) == pytest.approx(0.55)
    assert stage.scale(100) == pytest.approx(0.1)


def test_frames_keep_their_size_in_the_processor(processor: Qwen2_5_VLProcessor) -> None:
    frames = np.zeros((FRAMES, FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
    assert processed(processor, "<|video_pad|>", frames)["pixel_values_videos"].shape == (64, 1176)
