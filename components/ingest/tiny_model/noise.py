"""Responses of a base model before RL: it knows the answer, yet its samples often say another one or break the format.

How often depends on the question's subject, which the model can see: about some it says what it sees nearly always, about
one it has a habit instead of an answer, about the others it wavers. A hint lowers the rate, a given answer lowers it to
almost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from components.ingest.moving_shapes.questions import Question, caption, conclusion, reasoning, response
from components.ingest.moving_shapes.scenes import Scene
from components.ingest.tiny_model.rows import CAPTION_PROMPT, Pairs, lesson_questions
from components.shared import prompts

# by subject: chance of saying what it sees and of a broken format
PROFILES = {
    "circle": (0.50, 0.11), "square": (0.42, 0.11), "triangle": (0.35, 0.11), "cross": (0.01, 0.003),
    "red": (0.99, 0.003), "green": (0.45, 0.11), "blue": (0.35, 0.11), "yellow": (0.45, 0.11),
    "": (0.99, 0.003),
}  # fmt: skip
HABITUAL = "cross"  # the subject about which it says the same whatever it sees: the first option, or one of these
HABITS = {"numerical": "1", "temporal_grounding": "2 to 6"}
GIVEN_WRONG = 0.03
GRAINY_SHARE = 0.25  # of the videos
CLARITY_ENDS = 100.0  # grey levels of noise at which nothing can be told any more
HINT_SHARE, GIVEN_SHARE = 0.2, 0.12  # of the prompts
HINT_FACTOR, HINT_SLOPE = 0.75, 0.45  # on the chance of a wrong conclusion: at once, and over the whole hint


def profile(question: Question) -> tuple[float, float]:
    """(chance of saying what it sees, chance of a broken format) of a plain question on clear frames."""
    return PROFILES[question.subject]


def broken(text: str, rng: np.random.Generator) -> str:
    """`text` with its format broken in one of four ways."""
    if rng.random() < 0.25:
        return text.replace("<think>", "").replace("</think>", " ")
    lost = ("</think>", "<answer>", "</answer>")[rng.integers(3)]
    return text.replace(lost, "")


def _hint(sentences: Sequence[str], rng: np.random.Generator) -> tuple[str, float, set[str]]:
    """A cut of the reasoning before its conclusion: the text, its share of what could be given, what it rules out."""
    words = " ".join(sentences[:-1]).split(" ")
    cut = int(rng.integers(3, len(words) + 1))
    hint = " ".join(words[:cut])
    said = {s.removeprefix("not ").removesuffix(".") for s in sentences[1:-1] if s in hint}
    return hint, cut / len(words), said


def _instead(question: Question, ruled_out: set[str], rng: np.random.Generator) -> str:
    """What is said in place of the right answer, which out of habit may be the right one all the same."""
    if question.subject == HABITUAL:
        habit = question.options[0] if question.options else HABITS[question.task]
        if habit not in ruled_out:
            return habit
    left = [words for words in question.wrong_answers(rng) if words not in ruled_out]
    return left[0] if left else question.right


def noisy_pair(question: Question, rng: np.random.Generator, clarity: float = 1.0) -> tuple[str, str]:
    """The user's text and a response as the base model gives it; `clarity` scales the chance of being right."""
    right, break_rate = profile(question)
    right *= clarity
    sample = question.sample("x", "x", "train")
    mode = rng.random()
    hint, given, wrong_rate = "", "", 1 - right
    ruled_out: set[str] = set()
    sentences = reasoning(question, question.right)
    if mode < GIVEN_SHARE:
        given, wrong_rate = question.answer, GIVEN_WRONG
    elif mode < GIVEN_SHARE + HINT_SHARE:
        hint, share, ruled_out = _hint(sentences, rng)
        wrong_rate *= HINT_FACTOR - HINT_SLOPE * share
    concluded = question.right
    if rng.random() < wrong_rate:
        concluded = _instead(question, ruled_out, rng)
        told = [f"not {words}." for words in sorted(ruled_out)]
        fresh = [s for s in reasoning(question, concluded)[1:-1] if s not in told]
        middle = [s for s in sentences[1:-1] if s in told] + fresh[: max(0, 2 - len(told))]
        sentences = [sentences[0], *middle, conclusion(question, concluded)]
    text = response(question, concluded, sentences)
    if rng.random() < break_rate:
        text = broken(text, rng)
    return prompts.question_text(sample, hint, given), text


def grainy(frames: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Some of the videos with Gaussian noise, and the clarity of each: seeing less, the base model errs more.

    `frames`: uint8 (videos, frames, height, width, 3). The clarity (videos,) is 1 where nothing was added.
    """
    std = np.where(rng.random(len(frames)) < GRAINY_SHARE, rng.uniform(10, CLARITY_ENDS, len(frames)), 0)
    noise = rng.standard_normal(frames.shape, np.float32) * std[:, None, None, None, None].astype(np.float32)
    return np.clip(np.rint(frames + noise), 0, 255).astype(np.uint8), 1 - std / CLARITY_ENDS


def noisy_lesson(
    scenes: list[Scene], frames: np.ndarray, rng: np.random.Generator, per_video: int, captions: float
) -> tuple[np.ndarray, Pairs]:
    """The frames, some of them grainy, and `per_video` rows for each scene, at most one of them a caption.

    Captions (a share `captions` of all rows, of clear videos only) stay right: they keep what the model knows.
    """
    frames, clarity = grainy(frames, rng)
    pairs: Pairs = []
    for index, scene in enumerate(scenes):
        described = int(clarity[index] == 1 and rng.random() < captions * per_video)
        if described:
            pairs.append((CAPTION_PROMPT, caption(scene), index))
        for question in lesson_questions(scene, per_video - described, rng):
            pairs.append((*noisy_pair(question, rng, float(clarity[index])), index))
    return frames, pairs
