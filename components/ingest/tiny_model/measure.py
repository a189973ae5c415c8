"""What the tiny model can do before RL, sampled by vLLM on fresh questions: run it as a module, with a folder or none."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from components.ingest.moving_shapes.questions import Question, ask, reasoning
from components.ingest.moving_shapes.scenes import LookName, random_scene
from components.ingest.tiny_model.rows import render
from components.shared.dataset import add_noise
from components.shared.generation import GenerationSettings, Prompt, make_sampler
from components.shared.rewards import score
from components.shared.schemas import Sample

WEIGHTS = Path(__file__).parent / "weights"
FIGURES = Path(__file__).parent / "figures.json"
SAMPLES = 8
NOISE_LEVELS = (0, 20, 40, 80)  # grey levels
HINT_SHARES = (0.4, 0.8, 1.0)
REWARDS = ("format", "accuracy")
_SEED = 900_000  # far from any training seed


@dataclass(frozen=True)
class Item:
    """A fresh question with its frames, uint8 (8, 56, 56, 3), and how it is asked."""

    question: Question
    sample: Sample
    frames: np.ndarray
    hint: str = ""
    given_answer: str = ""


def fresh_items(count: int, look: LookName = "plain", unseen: bool = False) -> list[Item]:
    """`count` questions, three a video, about scenes that no training has seen."""
    rng = np.random.default_rng((_SEED, len(look), unseen))
    items: list[Item] = []
    while len(items) < count:
        scene = random_scene(rng, look)
        frames = render([scene], rng)[0]
        for question in ask(scene, 3, rng, unseen):
            items.append(Item(question, question.sample(f"{len(items)}", "x", "L1"), frames))
    return items[:count]


class Examiner:
    """Samples responses with the project's own engine and scores them with its own rewards."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sampler = make_sampler(GenerationSettings(max_model_len=1024))

    def __call__(self, items: list[Item], count: int = SAMPLES, temperature: float = 1.0, seed: int = 0) -> np.ndarray:
        """(questions, responses, 3): format, accuracy (IoU of intervals), and their sum."""
        prompts = [Prompt(i.sample.id, i.sample, i.frames, 1.0, i.hint, i.given_answer) for i in items]
        sampled = self._sampler.sample(
            self._folder, prompts, n=count, seeds=range(seed, seed + len(items) * count, count),
            temperature=temperature, max_completion_length=64,
        )  # fmt: skip
        table = []
        for item, group in zip(items, sampled, strict=True):
            scored = [score(item.sample, response.text, REWARDS) for response in group.responses]
            table.append([[*(values[name] for name in REWARDS), total] for values, total in scored])
        return np.array(table)


def hinted(items: list[Item], share: float) -> list[Item]:
    """Asked with the first `share` of the words before the conclusion of a right reasoning."""
    words = [" ".join(reasoning(item.question, item.question.right)[:-1]).split(" ") for item in items]
    hints = [" ".join(said[: max(1, round(share * len(said)))]) for said in words]
    return [replace(item, hint=hint) for item, hint in zip(items, hints, strict=True)]


def told(items: list[Item]) -> list[Item]:
    """Asked with the answer given."""
    return [replace(item, given_answer=item.question.answer) for item in items]


def noised(items: list[Item], level: float) -> list[Item]:
    """Shown with Gaussian noise of `level` grey levels, as augmentation adds it."""
    return [replace(item, frames=add_noise(item.frames, level, _SEED + n)) for n, item in enumerate(items)]


def _by(names: list[str], sampled: np.ndarray, greedy: np.ndarray) -> dict[str, dict[str, float]]:
    rows = defaultdict(list)
    for index, name in enumerate(names):
        rows[name].append(index)
    means = {"sampled": sampled, "greedy": greedy}
    return {name: {key: _mean(of[rows[name]]) for key, of in means.items()} for name in sorted(rows)}


def _mean(values: np.ndarray) -> float:
    return round(float(values.mean()), 3)


def measure(folder: Path = WEIGHTS, count: int = 240) -> dict[str, Any]:
    """All figures of the base model on `count` fresh questions, sampled at temperature 1.

    Hard questions are those whose mean reward over one set of responses is below the mean of all; their accuracy
    without a hint is that of a second set, so that picking them does not bias it.
    """
    examine = Examiner(folder)
    items = fresh_items(count)
    plain = examine(items)
    greedy = examine(items, 1, 0.0)[:, 0, 1]
    accuracy, reward = plain[..., 1], plain[..., 2]
    hard = [item for item, mean in zip(items, reward.mean(1), strict=True) if mean < reward.mean()]

    def sampled(chosen: list[Item]) -> float:
        return _mean(examine(chosen, seed=_SEED)[..., 1])

    right = (accuracy >= 0.5).sum(1)
    return {
        "questions": count,
        "format": _mean(plain[..., 0]),
        "accuracy_sampled": _mean(accuracy),
        "accuracy_greedy": _mean(greedy),
        "reward_mean": _mean(reward),
        "all_equal_share": _mean(np.ptp(reward, axis=1) < 1e-6),
        "right_of_8_histogram": np.bincount(right, minlength=SAMPLES + 1).tolist(),
        "by_kind": _by([item.question.kind for item in items], accuracy, greedy),
        "by_subject": _by([item.question.subject or "none" for item in items], accuracy, greedy),
        "hard_questions": len(hard),
        "hard_by_hint_share": {
            "0": sampled(hard),
            **{str(share): sampled(hinted(hard, share)) for share in HINT_SHARES},
        },
        "hard_given_answer": sampled(told(hard)),
        "by_noise": {str(level): sampled(noised(items, level)) for level in NOISE_LEVELS},
        "other_look": sampled(fresh_items(count, "other")),
        "other_look_unseen_kinds": sampled(fresh_items(count, "other", unseen=True)),
    }


def main() -> None:
    """Measure, print, and write figures.json beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=WEIGHTS)
    parser.add_argument("--questions", type=int, default=240)
    parser.add_argument("--out", type=Path, default=FIGURES)
    arguments = parser.parse_args()
    figures = measure(arguments.folder, arguments.questions)
    print(json.dumps(figures, indent=2))
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
