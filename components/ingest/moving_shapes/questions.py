"""Scenes to questions, answers, and the reasoning that a good answer would give.

The reasoning is for supervised learning only (the tiny model's pretraining, a run's warm-up): a glance at the subject,
the conclusion, and between them wrong alternatives that are ruled out, or what a caption says before it comes to the
answer. It tells the right answer nowhere before the conclusion, so that any earlier cut of it is a hint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from components.ingest.moving_shapes.scenes import (
    COLORS,
    DIRECTIONS,
    DURATION,
    POSITIONS,
    SHAPES,
    SPEEDS,
    MovingShape,
    Scene,
    quadrant,
)
from components.shared.prompts import option_letter
from components.shared.schemas import Sample, Span, Task

MAX_COUNT = 3


@dataclass(frozen=True)
class Question:
    """A question about one scene. `right` is the answer in words: an option's text, a number, or "START to END"."""

    kind: str
    subject: str  # what a base model's knowledge may depend on: a shape, a colour, or nothing
    text: str
    task: Task
    right: str
    glance: str  # where the reasoning looks first
    options: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()
    joint: str | None = None  # if given, the glance runs on into the conclusion, as a caption does, with this word

    @property
    def answer(self) -> str:
        """The answer as the annotations hold it: a letter for multiple choice."""
        return self.answer_of(self.right)

    def answer_of(self, words: str) -> str:
        """The answer that says `words`."""
        return option_letter(self.options.index(words)) if self.options else words

    def wrong_answers(self, rng: np.random.Generator) -> list[str]:
        """Plausible wrong answers in words, in random order."""
        if self.task == "multiple_choice":
            wrong = [option for option in self.options if option != self.right]
        elif self.task == "numerical":
            wrong = [str(n) for n in range(MAX_COUNT + 1) if str(n) != self.right]
        else:
            start, end = (int(v) for v in self.spans[0])
            intervals = {(start + a, end + b) for a in (-3, -2, 2, 3) for b in (-2, -1, 0, 1, 2)}
            wrong = [f"{a} to {b}" for a, b in sorted(intervals) if 0 <= a < b <= DURATION]
            wrong = wrong or [f"{a} to {b}" for a in range(DURATION) for b in range(a + 1, DURATION + 1) if a != start]
        return [wrong[i] for i in rng.permutation(len(wrong))]

    def sample(self, sample_id: str, video: str, split: str) -> Sample:
        """The annotation of this question, with a response to learn from."""
        taught = response(self, self.right, reasoning(self, self.right))
        return Sample(
            id=sample_id, video=video, question=self.text, options=self.options, answer=self.answer, task=self.task,
            spans=self.spans, response=taught, split=split, source="moving-shapes", licence="CC0-1.0",
            metadata={"kind": self.kind},
        )  # fmt: skip


def eliminations(question: Question, concluded: str) -> list[str]:
    """What a reasoning that ends in `concluded` rules out before, at most two alternatives.

    They are those that follow `concluded` in the question's own order, so the first of them already takes a decision:
    in random order they would be learnt, and missed, one by one.
    """
    if question.joint is not None:
        return []
    if question.task == "temporal_grounding":
        start, end = (int(v) for v in concluded.split(" to "))
        return [f"not at {t}." for t in (start - 1, end + 1) if 0 <= t < DURATION]
    every = question.options or tuple(str(n) for n in range(MAX_COUNT + 1))
    at = every.index(concluded)
    return [f"not {words}." for words in (*every[at + 1 :], *every[:at])[:2]]


def conclusion(question: Question, concluded: str) -> str:
    """The end of a reasoning."""
    joint = "it is" if question.joint is None else question.joint
    return f"{joint} {concluded}.".lstrip()


def reasoning(question: Question, concluded: str) -> list[str]:
    """The parts of a reasoning that ends in `concluded`; joined by spaces they stand inside <think> </think>."""
    stop = "." if question.joint is None else ""
    return [f"look at {question.glance}{stop}", *eliminations(question, concluded), conclusion(question, concluded)]


def response(question: Question, concluded: str, sentences: Sequence[str]) -> str:
    """A well-formed response whose reasoning is `sentences` and whose answer says `concluded`."""
    return f"<think>{' '.join(sentences)}</think><answer>{question.answer_of(concluded)}</answer>"


def _choice(
    kind: str, subject: str, text: str, right: str, options: Sequence[str], glance: str, joint: str | None = None
) -> Question:
    # The options of a kind keep their order: finding a word's letter in shuffled ones took the tiny model far longer to
    # learn than everything that it has to see.
    return Question(kind, subject, text, "multiple_choice", right, glance, tuple(options), joint=joint)


def _any(items: Sequence[MovingShape], rng: np.random.Generator) -> MovingShape:
    return items[int(rng.integers(len(items)))]


def _pick(items: Sequence[MovingShape], rng: np.random.Generator) -> MovingShape | None:
    return _any(items, rng) if items else None


def _unique_colors(scene: Scene) -> list[MovingShape]:
    colors = [s.color for s in scene.shapes]
    return [s for s in scene.shapes if colors.count(s.color) == 1]


def _extreme(scene: Scene, last: bool) -> MovingShape | None:
    """The shape that appears first (or last), if there is exactly one and it has company."""
    times = [s.appears for s in scene.shapes]
    time = max(times) if last else min(times)
    return scene.shapes[times.index(time)] if len(times) > 1 and times.count(time) == 1 else None


def _color(scene: Scene, rng: np.random.Generator) -> Question | None:
    item = _any(scene.shapes, rng)
    return _choice("color", item.shape, f"What color is the {item.shape}?", item.color, COLORS, f"the {item.shape}")


def _shape(scene: Scene, rng: np.random.Generator) -> Question | None:
    item = _pick(_unique_colors(scene), rng)
    if item:
        text = f"Which shape is {item.color}?"
        return _choice("shape", item.color, text, item.shape, SHAPES, f"the {item.color} one")
    return None


def _motion(item: MovingShape) -> dict[str, str]:
    """What a caption says of a shape: each fact of place and motion, and all that stands before it."""
    start, end = quadrant(item.x, item.y), quadrant(*item.center(item.disappears)) or "middle"
    before = f"{item.color} {item.shape} {item.appears} to {item.disappears}"
    return {
        "start": before,
        "end": f"{before} from {start}",
        "direction": f"{before} from {start} to {end}",
        "speed": f"{before} from {start} to {end} {item.direction}",
    }


_JOINTS = {"start": "from", "end": "to", "direction": "", "speed": ""}


def _of_motion(
    fact: str, item: MovingShape, name: str, text: str, right: str | None, options: Sequence[str]
) -> Question | None:
    """A question about a fact of `_motion`. `name` is how the question calls the shape: by its kind or its colour."""
    if right is None:
        return None
    by_color = name != item.shape
    glance = f"the {name}: {_motion(item)[fact]}"
    kind, subject = (f"color {fact}", item.color) if by_color else (fact, item.shape)
    return _choice(kind, subject, text, right, options, glance, _JOINTS[fact])


def _start(scene: Scene, rng: np.random.Generator) -> Question | None:
    item = _any(scene.shapes, rng)
    text = f"Where does the {item.shape} start?"
    return _of_motion("start", item, item.shape, text, quadrant(item.x, item.y), POSITIONS)


def _end(scene: Scene, rng: np.random.Generator) -> Question | None:
    item = _any(scene.shapes, rng)
    text = f"Where does the {item.shape} end?"
    return _of_motion("end", item, item.shape, text, quadrant(*item.center(item.disappears)), POSITIONS)


def _direction(scene: Scene, rng: np.random.Generator) -> Question | None:
    item = _pick([s for s in scene.shapes if s.speed != "still"], rng)
    if item:
        text = f"Which way does the {item.shape} move?"
        return _of_motion("direction", item, item.shape, text, item.direction, tuple(DIRECTIONS))
    return None


def _speed(scene: Scene, rng: np.random.Generator) -> Question | None:
    item = _any(scene.shapes, rng)
    return _of_motion("speed", item, item.shape, f"How fast is the {item.shape}?", item.speed, tuple(SPEEDS))


def _first(scene: Scene, rng: np.random.Generator) -> Question | None:
    item = _extreme(scene, last=False)
    if item:
        return _choice("first", "", "Which shape appears first?", item.shape, SHAPES, "the beginning")
    return None


def _count(scene: Scene, rng: np.random.Generator) -> Question | None:
    right = str(len(scene.shapes))
    return Question("count", "", "How many shapes are there?", "numerical", right, "all shapes")


def _count_color(scene: Scene, rng: np.random.Generator) -> Question | None:
    colors = [s.color for s in scene.shapes]
    color = str(rng.choice(COLORS)) if rng.random() < 0.3 else str(rng.choice(colors))
    right = str(colors.count(color))
    return Question("count color", color, f"How many shapes are {color}?", "numerical", right, f"the {color} ones")


def _interval(kind: str, item: MovingShape, name: str) -> Question:
    right = f"{item.appears} to {item.disappears}"
    spans = ((float(item.appears), float(item.disappears)),)
    subject = item.shape if kind == "visible" else item.color
    text = f"When is the {name} visible?"
    glance = f"the {name}: {item.color} {item.shape}"
    return Question(kind, subject, text, "temporal_grounding", right, glance, spans=spans)


def _visible(scene: Scene, rng: np.random.Generator) -> Question | None:
    item = _any(scene.shapes, rng)
    return _interval("visible", item, item.shape)


def _last(scene: Scene, rng: np.random.Generator) -> Question | None:
    item = _extreme(scene, last=True)
    if item:
        return _choice("last", "", "Which shape appears last?", item.shape, SHAPES, "the end")
    return None


def _first_color(scene: Scene, rng: np.random.Generator) -> Question | None:
    item = _extreme(scene, last=False)
    if item:
        text = "What color is the shape that appears first?"
        return _choice("first color", "", text, item.color, COLORS, "the beginning")
    return None


def _color_direction(scene: Scene, rng: np.random.Generator) -> Question | None:
    item = _pick([s for s in _unique_colors(scene) if s.speed != "still"], rng)
    if item:
        text = f"Which way does the {item.color} shape move?"
        return _of_motion("direction", item, f"{item.color} shape", text, item.direction, tuple(DIRECTIONS))
    return None


def _color_start(scene: Scene, rng: np.random.Generator) -> Question | None:
    item = _pick(_unique_colors(scene), rng)
    if item:
        text = f"Where does the {item.color} shape start?"
        return _of_motion("start", item, f"{item.color} shape", text, quadrant(item.x, item.y), POSITIONS)
    return None


def _color_visible(scene: Scene, rng: np.random.Generator) -> Question | None:
    item = _pick(_unique_colors(scene), rng)
    return _interval("color visible", item, f"{item.color} shape") if item else None


def _count_moving(scene: Scene, rng: np.random.Generator) -> Question | None:
    right = str(sum(s.speed != "still" for s in scene.shapes))
    return Question("count moving", "", "How many shapes move?", "numerical", right, "all shapes")


_Maker = Callable[[Scene, np.random.Generator], Question | None]
TRAIN_KINDS: dict[str, _Maker] = {
    "color": _color, "shape": _shape, "start": _start, "end": _end, "direction": _direction, "speed": _speed,
    "first": _first, "count": _count, "count color": _count_color, "visible": _visible,
}  # fmt: skip
UNSEEN_KINDS: dict[str, _Maker] = {
    "last": _last, "first color": _first_color, "color direction": _color_direction, "color start": _color_start,
    "color visible": _color_visible, "count moving": _count_moving,
}  # fmt: skip


def ask(scene: Scene, count: int, rng: np.random.Generator, unseen: bool = False) -> list[Question]:
    """`count` questions of different kinds about a scene, fewer if it does not offer as many."""
    makers = list((UNSEEN_KINDS if unseen else TRAIN_KINDS).values())
    questions = (makers[i](scene, rng) for i in rng.permutation(len(makers)))
    found = [q for q in questions if q is not None]
    return found[:count]


def caption(scene: Scene) -> str:
    """A dense caption, shape by shape in order of appearance: what pretraining starts with."""
    sentences = []
    for item in sorted(scene.shapes, key=lambda s: (s.appears, s.shape)):
        sentences.append(f"{_motion(item)['speed']} {item.speed}.")
    return f"{len(sentences)} shapes. " + " ".join(sentences)
