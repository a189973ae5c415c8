"""What the tiny model can do before RL, sampled by vLLM on fresh questions: run it as a module, with a folder or none."""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.ingest.moving_shapes.questions import Question, ask, reasoning
from components.ingest.moving_shapes.scenes import LookName, random_scene
from components.ingest.tiny_model.rows import render
from components.shared import prompts
from components.shared.torchvision_compat import ensure_torchvision

WEIGHTS = Path(__file__).parent / "weights"
FIGURES = Path(__file__).parent / "figures.json"
SAMPLES = 8
NOISE_LEVELS = (0, 20, 40, 80)  # grey levels
_SEED = 900_000  # far from any training seed


@dataclass(frozen=True)
class Item:
    """A fresh question with its frames, uint8 (8, 56, 56, 3)."""

    question: Question
    frames: np.ndarray


def fresh_items(count: int, look: LookName = "plain", unseen: bool = False) -> list[Item]:
    """`count` questions, three a video, about scenes that no training has seen."""
    rng = np.random.default_rng((_SEED, len(look), unseen))
    items: list[Item] = []
    while len(items) < count:
        scene = random_scene(rng, look)
        frames = render([scene], rng)[0]
        items += [Item(q, frames) for q in ask(scene, 3, rng, unseen)]
    return items[:count]


def interval_iou(text: str, question: Question) -> float:
    """Intersection over union of the answer "START to END" with the question's span; 0 if it is no interval."""
    parts = text.split(" to ")
    if len(parts) != 2 or not all(p.strip().isdigit() for p in parts):
        return 0.0
    (start, end), (low, high) = (float(p) for p in parts), question.spans[0]
    inside = max(0.0, min(end, high) - max(start, low))
    return inside / (max(end, high) - min(start, low)) if end > start else 0.0


def scores(text: str, question: Question) -> tuple[float, float, float]:
    """(format, accuracy, reward) of one response; for intervals the reward counts IoU in place of accuracy."""
    answer = prompts.extract_answer(text)
    formed = float(prompts.is_well_formed(text))
    accuracy = float(answer == question.answer)
    second = interval_iou(answer or "", question) if question.spans else accuracy
    return formed, accuracy, formed + second


class Sampler:
    """vLLM with the tiny model."""

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        ensure_torchvision()
        from transformers import AutoProcessor
        from vllm import LLM, ModelRegistry
        from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration

        # a class that is registered as such is not inspected in a child process, where torchvision may fail to import
        ModelRegistry.register_model("Qwen2_5_VLForConditionalGeneration", Qwen2_5_VLForConditionalGeneration)
        self.processor = AutoProcessor.from_pretrained(folder)
        self._llm = LLM(
            model=str(folder), dtype="float32", enforce_eager=True, max_model_len=1024, max_num_seqs=64, seed=0,
            limit_mm_per_prompt={"video": 1, "image": 0}, mm_processor_kwargs={"do_sample_frames": False},
        )  # fmt: skip

    def __call__(self, requests: list[tuple[str, np.ndarray]], count: int, greedy: bool = False) -> list[list[str]]:
        """`count` responses for each (prompt text, frames)."""
        from vllm import SamplingParams

        metadata: dict[str, Any] = {
            "fps": 1.0, "total_num_frames": 8, "duration": 8.0, "frames_indices": list(range(8)),
            "video_backend": "memory", "do_sample_frames": False,
        }  # fmt: skip
        inputs: Any = [{"prompt": text, "multi_modal_data": {"video": (frames, metadata)}} for text, frames in requests]
        parameters = SamplingParams(n=count, temperature=0.0 if greedy else 1.0, top_p=1.0, max_tokens=64)
        outputs = self._llm.generate(inputs, parameters, use_tqdm=False)
        return [[completion.text for completion in output.outputs] for output in outputs]


def _requests(processor: Any, items: list[Item], **extra: list[str]) -> list[tuple[str, np.ndarray]]:
    requests = []
    for index, item in enumerate(items):
        sample = item.question.sample("x", "x", "train")
        more = {name: values[index] for name, values in extra.items()}
        requests.append((prompts.prompt_text(processor, sample, **more), item.frames))
    return requests


def _table(items: list[Item], texts: list[list[str]]) -> np.ndarray:
    """(questions, responses, 3): format, accuracy, reward."""
    return np.array([[scores(t, item.question) for t in group] for item, group in zip(items, texts, strict=True)])


def _noised(items: list[Item], level: float) -> list[Item]:
    rng = np.random.default_rng(_SEED + int(level))
    return [
        Item(i.question, np.clip(np.rint(i.frames + rng.normal(0, level, i.frames.shape)), 0, 255).astype(np.uint8))
        for i in items
    ]


def _hints(items: list[Item], share: float) -> list[str]:
    """The first `share` of the words before the conclusion of a right reasoning."""
    hints = []
    for item in items:
        words = " ".join(reasoning(item.question, item.question.right)[:-1]).split(" ")
        hints.append(" ".join(words[: max(1, round(share * len(words)))]))
    return hints


def measure(folder: Path = WEIGHTS, count: int = 240) -> dict[str, Any]:
    """All figures of the base model on `count` fresh questions, sampled at temperature 1."""
    sampler = Sampler(folder)
    processor = sampler.processor
    items = fresh_items(count)
    plain = _table(items, sampler(_requests(processor, items), SAMPLES))
    greedy = _table(items, sampler(_requests(processor, items), 1, greedy=True))
    accuracy, best, reward = plain[..., 1].mean(1), greedy[:, 0, 1], plain[..., 2]
    hard = [item for item, mean in zip(items, reward.mean(1), strict=True) if mean < reward.mean()]
    easy = [item for item, mean in zip(items, reward.mean(1), strict=True) if mean >= reward.mean()]
    before = plain[reward.mean(1) < reward.mean(), :, 1].mean()

    def sampled(chosen: list[Item], **extra: list[str]) -> float:
        return round(float(_table(chosen, sampler(_requests(processor, chosen, **extra), SAMPLES))[..., 1].mean()), 3)

    kinds = defaultdict(list)
    for index, item in enumerate(items):
        kinds[item.question.kind].append(index)
    return {
        "questions": count,
        "format": round(float(plain[..., 0].mean()), 3),
        "accuracy_sampled": round(float(accuracy.mean()), 3),
        "accuracy_greedy": round(float(best.mean()), 3),
        "reward_mean": round(float(reward.mean()), 3),
        "all_equal_share": round(float(np.mean(reward.max(1) - reward.min(1) < 1e-6)), 3),
        "right_of_8_histogram": np.bincount(plain[..., 1].sum(1).astype(int), minlength=SAMPLES + 1).tolist(),
        "by_kind": {
            kind: {name: round(float(of[rows].mean()), 3) for name, of in (("sampled", accuracy), ("greedy", best))}
            for kind, rows in sorted(kinds.items())
        },
        "hard_questions": len(hard),
        "hard_by_hint_share": {
            "0": round(float(before), 3),
            **{str(share): sampled(hard, hint=_hints(hard, share)) for share in (0.4, 0.8, 1.0)},
        },
        "hard_given_answer": sampled(hard, given_answer=[i.question.answer for i in hard]),
        "by_noise": {str(level): sampled(_noised(items, level)) for level in NOISE_LEVELS},
        "easy_by_noise": {str(level): sampled(_noised(easy, level)) for level in NOISE_LEVELS},
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
