"""Training rows: which videos are shown, what is asked about them, and the response to learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from components.ingest.moving_shapes.drawing import draw_batch
from components.ingest.moving_shapes.questions import TRAIN_KINDS, Question, ask, caption, reasoning, response
from components.ingest.moving_shapes.scenes import COLORS, DURATION, SHAPES, Scene, random_scene
from components.ingest.tiny_model import forward
from components.ingest.tiny_model.build import FRAME_SIZE
from components.shared import prompts
from components.shared.schemas import Sample

FRAMES = 8
VIDEO_TOKENS = 16
FPS = (8, 10, 12)
CAPTION_PROMPT = "Describe the video."
PAD = "<|video_pad|>"

Pairs = list[tuple[str, str, int]]  # the user's text, the response, which of the step's videos
BRIEF_SHARE = 0.25  # of right responses rule nothing out: the conclusion then has to come from the video alone
GIVEN_SHARE, HINT_SHARE = 0.12, 0.12
SLOW_KINDS = {
    "start": 2.0,
    "end": 2.0,
    "direction": 2.0,
    "speed": 1.5,
}  # they are learnt last, so they are asked more often


def sampled_timestamps(fps: int) -> np.ndarray:
    """Seconds of the 8 uniform frames of a video of DURATION seconds at `fps`."""
    return np.linspace(0, DURATION * fps - 1, FRAMES).round() / fps


def render(scenes: list[Scene], rng: np.random.Generator) -> np.ndarray:
    """uint8 (scenes, 8, 56, 56, 3), a little blurred and noisy as decoded and resized H.264 frames are."""
    times = np.stack([sampled_timestamps(int(f)) for f in rng.choice(FPS, len(scenes))])
    frames = draw_batch(scenes, times, FRAME_SIZE).astype(np.float32)
    soft = frames.copy()
    soft[:, :, 1:-1] = (frames[:, :, :-2] + 6 * frames[:, :, 1:-1] + frames[:, :, 2:]) / 8
    strength = rng.uniform(0, 1, (len(scenes), 1, 1, 1, 1)).astype(np.float32)
    frames += strength * (soft - frames)
    frames += rng.normal(0, 1, frames.shape).astype(np.float32) * rng.uniform(0, 4, (len(scenes), 1, 1, 1, 1))
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Pool:
    """Scenes drawn once; every step asks new questions about some of them."""

    scenes: list[Scene]
    frames: np.ndarray  # uint8 (scenes, 8, 56, 56, 3)


def make_pool(seed: int, count: int, progress: Any = None) -> Pool:
    """`count` scenes of the plain look from `seed`."""
    rng = np.random.default_rng((seed, 1))
    scenes, frames = [], np.empty((count, FRAMES, FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
    for start in range(0, count, 32):
        part = [random_scene(rng) for _ in range(min(32, count - start))]
        frames[start : start + len(part)] = render(part, rng)
        scenes += part
        if progress:
            progress(len(part))
    return Pool(scenes, frames)


class Encoder:
    """Texts to token ids, exactly as `prompts.prompt_text` and the processor do it."""

    def __init__(self, processor: Any) -> None:
        self.tokenizer = processor.tokenizer
        probe = Sample(id="x", video="x", question="?", answer="1", task="numerical")
        text = prompts.prompt_text(processor, probe)
        self._prefix, self._suffix = text.split(prompts.question_text(probe))
        self._prefix = self._prefix.replace(PAD, PAD * VIDEO_TOKENS)
        self.before = self.tokenizer(self._prefix)["input_ids"].index(self.tokenizer.convert_tokens_to_ids(PAD))

    def prompts(self, questions: list[str]) -> list[list[int]]:
        """The ids of whole prompts, video pads expanded."""
        return self.tokenizer([self._prefix + q + self._suffix for q in questions])["input_ids"]

    def responses(self, texts: list[str]) -> list[list[int]]:
        """The ids of responses with the end-of-turn token."""
        return self.tokenizer([t + "<|im_end|>" for t in texts])["input_ids"]


@dataclass(frozen=True)
class Rows:
    """A padded batch. `video` says which of the step's videos a row is about; labels are -100 outside responses."""

    ids_RL: Tensor
    labels_RL: Tensor
    weights_RL: Tensor  # of each label in the loss
    positions_3RL: Tensor
    video: Tensor


@dataclass(frozen=True)
class Emphasis:
    """Weights in the loss of the tokens that decide: without them they drown among tokens that are easy to tell."""

    reasoning: float = 1.0  # from what the glance finds to </think>
    answer: float = 1.0  # inside <answer> </answer>


def _weights(tokens: list[str], emphasis: Emphasis) -> list[float]:
    if "<answer>" not in tokens:
        return [1.0] * len(tokens)
    weights, current = [], 1.0
    for token in tokens:
        if token in ("</think>", "</answer>"):
            current = 1.0
        weights.append(current)
        if token in (".", ":"):
            current = emphasis.reasoning
        if token == "<answer>":
            current = emphasis.answer
    return weights


def pad_rows(encoder: Encoder, pairs: Pairs, emphasis: Emphasis) -> Rows:
    """Rows of (question text, response, video index)."""
    prompt_ids = encoder.prompts([p[0] for p in pairs])
    response_ids = encoder.responses([p[1] for p in pairs])
    length = max(len(p) + len(r) for p, r in zip(prompt_ids, response_ids, strict=True))
    ids = torch.zeros(len(pairs), length, dtype=torch.long)
    labels, weights = torch.full_like(ids, -100), torch.zeros(len(pairs), length)
    for row, (prompt, answer) in enumerate(zip(prompt_ids, response_ids, strict=True)):
        tokens = encoder.tokenizer.convert_ids_to_tokens(answer)
        there = slice(len(prompt), len(prompt) + len(answer))
        ids[row, : there.stop] = torch.tensor(prompt + answer)
        labels[row, there] = torch.tensor(answer)
        weights[row, there] = torch.tensor(_weights(tokens, emphasis))
    where = forward.positions(encoder.before, length)
    videos = torch.tensor([p[2] for p in pairs])
    return Rows(ids, labels, weights, where[:, None].expand(-1, len(pairs), -1), videos)


def lesson_questions(scene: Scene, count: int, rng: np.random.Generator) -> list[Question]:
    """`count` questions about a scene, drawn without replacement by the weights of their kinds."""
    questions = ask(scene, len(TRAIN_KINDS), rng)
    order = np.argsort([rng.exponential(1 / SLOW_KINDS.get(q.kind, 1.0)) for q in questions])
    return [questions[i] for i in order[:count]]


def clean_pair(question: Question, rng: np.random.Generator) -> tuple[str, str]:
    """The user's text and a right response; sometimes with the answer given, sometimes with a hint."""
    sample = question.sample("x", "x", "train")
    sentences = reasoning(question, question.right)
    hint, given = "", ""
    kind = rng.random()
    if kind < BRIEF_SHARE:
        sentences = [sentences[0], sentences[-1]]
    elif kind < BRIEF_SHARE + GIVEN_SHARE:
        given = question.answer if rng.random() < 0.8 else question.right
    elif kind < BRIEF_SHARE + GIVEN_SHARE + HINT_SHARE and len(sentences) > 2:
        hint = " ".join(sentences[: rng.integers(2, len(sentences))])
    return prompts.question_text(sample, hint, given), response(question, question.right, sentences)


def clean_lesson(
    scenes: list[Scene], frames: np.ndarray, rng: np.random.Generator, per_video: int, captions: float
) -> tuple[np.ndarray, Pairs]:
    """The frames and `per_video` rows for each scene, at most one of them a caption: a share `captions` of all rows."""
    pairs = []
    for index, scene in enumerate(scenes):
        described = int(rng.random() < captions * per_video)
        if described:
            pairs.append((CAPTION_PROMPT, caption(scene), index))
        for question in lesson_questions(scene, per_video - described, rng):
            pairs.append((*clean_pair(question, rng), index))
    return frames, pairs


def cell_labels(scenes: list[Scene]) -> tuple[np.ndarray, np.ndarray]:
    """What each video token shows, for the vision tower's warm-up.

    Returns how much of each (shape, colour) lies in the token's square, per frame of the two: (scenes, 16, 2, 24), and
    the centres of shapes (scenes, 16, 2, 4, 2), relative to the square, NaN where most of the shape lies elsewhere.
    """
    times = np.arange(FRAMES) * 1.13
    cover = np.zeros((len(scenes), 4, 2, 2, 2, len(SHAPES), len(COLORS)), np.float32)
    center = np.full((len(scenes), 4, 2, 2, 2, len(SHAPES), 2), np.nan, np.float32)
    for i, scene in enumerate(scenes):
        radius = scene.look.radius
        for item in scene.shapes:
            s, c = SHAPES.index(item.shape), COLORS.index(item.color)
            for k in range(item.appears, item.disappears):
                x, y = item.center(times[k])
                for row in range(2):
                    high = min(y + radius, row / 2 + 0.5) - max(y - radius, row / 2)
                    for column in range(2):
                        wide = min(x + radius, column / 2 + 0.5) - max(x - radius, column / 2)
                        part = max(high, 0) * max(wide, 0) / (4 * radius * radius)
                        cover[i, k // 2, row, column, k % 2, s, c] = min(part, 1)
                        if part > 0.4:
                            center[i, k // 2, row, column, k % 2, s] = (4 * x - 2 * column - 1, 4 * y - 2 * row - 1)
    shape = (len(scenes), VIDEO_TOKENS, 2)
    return cover.reshape(*shape, -1), center.reshape(*shape, len(SHAPES), 2)
