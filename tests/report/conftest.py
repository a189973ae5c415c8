"""A run of three rounds, the last one skipped, as its steps would report it; dataset and scores in a real store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.evaluation.figures import changes_by_level, figures_by_level, flips
from components.shared.context import StepContext
from components.shared.dataset import FRAMES, QUARANTINE, REPORT, SAMPLES, add_noise, frames_digest, write_records
from components.shared.reports import StepReport
from components.shared.schemas import ArtifactRef, Augmentation, Frames, Quarantined, Sample
from components.shared.scores import ANSWERS, FLIPS, SCORES, Answer, Answered, answers_to_parquet
from components.shared.store import Store

COLOURS = {"red": (214, 69, 65), "green": (63, 154, 90), "blue": (58, 104, 190)}
OPTIONS = ("left to right", "right to left", "downwards")
QUARANTINE_LIST = [
    Quarantined(item="video_017.mp4", reason="cannot be decoded", detail="moov atom not found", samples=3),
    Quarantined(item="annotations.jsonl:42", reason="answer is not an option", detail="answer: 'E' is none of A, B, C"),
]
RESPONSE = "<think>The {colour} disc is first {a}, then {b}, so it moves {way}.</think><answer>{letter}</answer>"


def moving_disc(colour: str, seed: int) -> np.ndarray:
    """Eight frames of a disc that crosses the picture, uint8 (8, 56, 56, 3)."""
    y, x = np.mgrid[:56, :56]
    frames = np.full((8, 56, 56, 3), 24, np.uint8)
    for index in range(8):
        centre = 8 + (index if seed % 2 else 7 - index) * 5.6
        frames[index][(x - centre) ** 2 + (y - 18 - seed % 20) ** 2 < 49] = COLOURS[colour]
    return frames


def make_sample(index: int, split: str) -> Sample:
    colour = list(COLOURS)[index % 3]
    return Sample(
        id=f"{split}-{index:03d}",
        video=f"video_{index:03d}.mp4",
        question=f"Which way does the {colour} disc move? <&>",
        options=OPTIONS,
        answer="AB"[1 - index % 2],
        task="multiple_choice",
        split=split,
    )


@pytest.fixture(scope="session")
def context(tmp_path_factory) -> StepContext:
    return StepContext(store=str(tmp_path_factory.mktemp("store")), seed=7, run_name="laptop-2026-11-22")


@pytest.fixture(scope="session")
def store(context) -> Store:
    return context.open_store()


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    splits = {"train": 60, "L1": 40, "L2": 30, "promotion": 30}
    return [make_sample(index, split) for split, count in splits.items() for index in range(count)]


@pytest.fixture(scope="session")
def dataset(store, samples, tmp_path_factory) -> ArtifactRef:
    folder = tmp_path_factory.mktemp("parts") / "dataset"
    (folder / "frames").mkdir(parents=True)
    records = []
    for index in range(60):
        frames = moving_disc(list(COLOURS)[index % 3], index)
        np.save(folder / "frames" / f"{index}.npy", frames)
        records.append(
            Frames(
                video=f"video_{index:03d}.mp4",
                file=f"frames/{index}.npy",
                timestamps=tuple(i / 2 for i in range(8)),
                fps=2.0,
                duration=4.0,
                height=56,
                width=56,
                digest=frames_digest(frames),
            )
        )
    write_records(folder / FRAMES, records)
    write_records(folder / SAMPLES, samples)
    write_records(folder / QUARANTINE, QUARANTINE_LIST)
    (folder / REPORT).write_text("{}")
    return store.put(folder, "dataset")


def answers_of(samples: list[Sample], right: float, read: float, seed: int) -> list[Answered]:
    """Four sampled answers and a greedy one to each held-out question, right and readable with these chances."""
    rng = np.random.default_rng(seed)

    def draw(sample: Sample) -> Answer:
        parsed = bool(rng.random() < read)
        wins = parsed and bool(rng.random() < right)
        letter = sample.answer if wins else "C"
        return Answer(text=f"<answer>{letter}</answer>" if parsed else "disc disc", reward=float(wins), parsed=parsed)

    return [
        Answered(
            sample_id=sample.id,
            video=sample.video,
            level=sample.split,
            kind="direction" if index % 3 else "order",
            task=sample.task,
            question=sample.question,
            answer=sample.answer,
            sampled=tuple(draw(sample) for _ in range(4)),
            greedy=draw(sample),
        )
        for index, sample in enumerate(sample for sample in samples if sample.split != "train")
    ]


def put_scores(store: Store, folder: Path, answers: list[Answered], before: list[Answered]) -> ArtifactRef:
    options: dict[str, Any] = {"confidence": 0.95, "resamples": 200, "seed": 7}
    scores = {
        "confidence": 0.95,
        "levels": figures_by_level(answers, **options),
        "changes": changes_by_level(answers, before, **options) if before else {},
    }
    folder.mkdir(parents=True)
    (folder / SCORES).write_text(json.dumps(scores))
    (folder / ANSWERS).write_bytes(answers_to_parquet(answers))
    if before:
        (folder / FLIPS).write_text("".join(json.dumps(row) + "\n" for row in flips(answers, before)))
    return store.put(folder, "scores")


@pytest.fixture(scope="session")
def scores(store, samples, tmp_path_factory) -> tuple[ArtifactRef, ArtifactRef]:
    """Before and after."""
    before = answers_of(samples, right=0.5, read=0.9, seed=1)
    after = answers_of(samples, right=0.8, read=0.99, seed=2)
    folder = tmp_path_factory.mktemp("scores")
    return put_scores(store, folder / "before", before, []), put_scores(store, folder / "after", after, before)


def augmentation(kind: str, index: int) -> Augmentation:
    if kind == "hint":
        hint = "The blue disc is first at the left edge,"
        return Augmentation(kind="hint", delta=0.41, level=0.45, hint=hint)
    if kind == "noise":
        noised = add_noise(moving_disc(list(COLOURS)[index % 3], index), 24.0, 1234)
        return Augmentation(kind="noise", delta=-0.38, level=24.0, noise_seed=1234, frames_digest=frames_digest(noised))
    return Augmentation(delta=0.02)


def example(sample: Sample, index: int, kind: str) -> dict[str, Any]:
    texts = [
        RESPONSE.format(colour="blue", a="left", b="right", way="to the right", letter="A"),
        RESPONSE.format(colour="blue", a="right", b="left", way="to the left", letter="B"),
        "disc disc disc <script>alert(1)</script>",
        RESPONSE.format(colour="blue", a="left", b="left", way="nowhere", letter="C"),
    ]
    rewards = [{"format": 1.0, "accuracy": 1.0}, {"format": 1.0, "accuracy": 0.0}, {"format": 0.0, "accuracy": 0.0}]
    return {
        "sample_id": sample.id,
        "video": sample.video,
        "question": sample.question,
        "options": list(sample.options),
        "answer": sample.answer,
        "augmentation": augmentation(kind, index).model_dump(),
        "texts": texts,
        "rewards": [*rewards, {"format": 1.0, "accuracy": 0.0}],
        "mean_reward": 1.0,
        "mean_reward_unaugmented": 0.5,
    }


def round_reports(number: int, samples: list[Sample]) -> list[StepReport]:
    """What the four steps of a round report."""
    rng = np.random.default_rng(number)
    edges = np.linspace(-1, 1, 21)
    counts = np.histogram(rng.normal(0, 0.3, 32).clip(-1, 1), edges)[0].tolist()
    steps = list(range(16 * (number - 1) + 1, 16 * number + 1))
    results: dict[str, dict[str, Any]] = {
        "difficulty": {
            "samples": 32,
            "reward": 0.9 + 0.2 * number,
            "accuracy_rate": 0.4 + 0.1 * number,
            "difficulty_histogram": {"edges": edges.round(6).tolist(), "counts": counts},
        },
        "augmentation": {
            "augmented/none": 14,
            "augmented/hint": 8,
            "augmented/noise": 10,
            "augmented/mask": 0,
            "not_augmented_reasons": {"no response was right": 2},
        },
        "rollout": {
            "reward": 1.0 + 0.2 * number,
            "rewards/format/mean": 0.9,
            "rewards/accuracy/mean": 0.1 + 0.2 * number,
            "frac_reward_zero_std": 0.12,
            "frac_reward_zero_std_unaugmented": 0.3125,
            "examples": [example(samples[i], i, kind) for i, kind in enumerate(("hint", "noise", "none"), 3 * number)],
            "engines": {"vllm": "0.32.0", "transformers": "5.19.0", "torch": "2.13.0"},
        },
        "training": {
            "optimizer_steps": 15,
            "skipped_steps": 1,
            "series": {
                "global_step": steps,
                "loss": [1.0 - 0.002 * step + 0.05 * rng.random() for step in steps],
                "kl": [0.0004 * step for step in steps],
                "entropy": [0.8 - 0.005 * step for step in steps],
                "grad_norm": [None, *(5 + rng.exponential(4) for _ in steps[1:])],
                "rho_std": [0.02 * (step % 16) for step in steps],
            },
            "engines": {"deepspeed": "0.19.8", "torch": "2.13.0"},
        },
    }
    return [
        StepReport(
            step=step,
            round=number,
            results=values,
            digests={"policy": f"{number:064x}"},
            seconds=20.0 + number,
            startup_seconds=4.0 if step in ("difficulty", "training") else 0.0,
        )
        for step, values in results.items()
    ]


def skipped_round(number: int) -> list[StepReport]:
    reason = "round 2: KL 0.21 is above stop_kl 0.2"
    return [
        StepReport(
            step=step,
            round=number,
            results={"skipped": reason},
            digests={"policy": f"{number - 1:064x}"},
            seconds=0,
            startup_seconds=0,
        )
        for step in ("difficulty", "augmentation", "rollout", "training")
    ]


def warmup_report() -> StepReport:
    """What a warm-up of three epochs reports."""
    results: dict[str, Any] = {
        "samples": 58,
        "targets/response": 50,
        "targets/answer": 8,
        "samples_without_target": 1,
        "samples_too_long": 1,
        "num_train_epochs": 3,
        "optimizer_steps": 6,
        "skipped_steps": 0,
        "loss_first_epoch": 2.5,
        "loss_last_epoch": 0.25,
        "engines": {"deepspeed": "0.19.8"},
    }
    digests = {"policy": "a" * 64}
    return StepReport(step="warmup", round=0, results=results, digests=digests, seconds=30.0, startup_seconds=5.0)


@pytest.fixture(scope="session")
def reports(samples) -> list[StepReport]:
    def outside(step: str, seconds: float, startup: float, **results: Any) -> StepReport:
        return StepReport(step=step, round=0, results=results, digests={}, seconds=seconds, startup_seconds=startup)

    promotion = {
        "promoted": True,
        "reason": "promotion: accuracy +27.5 points against the base policy: above zero with its interval",
        "reasons": ["promotion: accuracy +27.5 points [+15.8, +38.3] against the base policy: above zero"],
        "difference": 0.275,
        "low": 0.158,
        "high": 0.383,
        "registered_model": "deepvideo-r1",
        "alias": "champion",
        "version": "3",
        "champion_before": "",
    }
    return [
        outside("ingest", 31.0, 0.0, engines={"decord": "0.6.0"}),
        outside("evaluation before", 40.0, 9.0),
        *round_reports(1, samples),
        *round_reports(2, samples),
        *skipped_round(3),
        outside("evaluation after", 41.0, 9.0),
        outside("promotion", 1.0, 0.0, **promotion, engines={"mlflow": "3.17.2"}),
    ]


@pytest.fixture(scope="session")
def arguments(dataset, scores, reports, context) -> dict[str, Any]:
    """What the report step is called with."""
    return {
        "dataset": dataset,
        "base": ArtifactRef(kind="policy", uri="file:///policy/0", digest="0" * 64, size=1),
        "policy": ArtifactRef(kind="policy", uri="file:///policy/2", digest=f"{2:064x}", size=1),
        "scores_before": scores[0],
        "scores_after": scores[1],
        "reports": reports,
        "settings": {
            "pipeline": {"rounds": 3, "fuse_sampling": True, "seed": 7},
            "training": {"objective": "reg_grpo", "learning_rate": 1e-4, "beta": 0.1, "std_floor": 1.0},
            "rewards": {"reward_funcs": ["format", "accuracy"], "reward_weights": {}},
        },
        "context": context,
    }
