"""The three public training sets, from files in their published forms to a round's groups, on the real engines.

The rows ask about Moving Shapes, which the tiny model knows something of; only their form is the sets'.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.augmentation.settings import AugmentationSettings
from components.augmentation.step import augment
from components.difficulty.settings import DifficultySettings
from components.difficulty.step import estimate_difficulty
from components.ingest.moving_shapes.drawing import draw
from components.ingest.moving_shapes.generate import write_video
from components.ingest.moving_shapes.scenes import COLORS, DURATION, Scene, random_scene
from components.ingest.settings import IngestSettings
from components.ingest.step import ingest
from components.rollout.settings import RolloutSettings
from components.rollout.step import roll_out
from components.shared.context import StepContext
from components.shared.dataset import DatasetReader
from components.shared.generation import GenerationSettings, Sampler, make_sampler
from components.shared.ledger import Outputs
from components.shared.policy_inputs import encode_prompt, load_processor
from components.shared.rewards import RewardSettings
from components.shared.sampling import artifacts
from components.shared.sampling.settings import SamplingSettings
from components.shared.schemas import ArtifactRef, Group, Response
from components.training.prepare import group_prompt
from components.training.settings import TrainingSettings
from components.training.warmup import warm_up
from components.training.warmup_settings import WarmupSettings

Row = dict[str, Any]
QUESTION = "How many shapes are there?"
ENGINES = GenerationSettings(max_model_len=512)
SAMPLING = SamplingSettings(num_generations=6, max_completion_length=48)
WARMUP = WarmupSettings(num_train_epochs=4, learning_rate=1e-3, train_batch_size=4, warmup_ratio=0)
HARD_AND_EASY = AugmentationSettings(augment_deadband=0.0)


def scenes() -> list[Scene]:
    rng = np.random.default_rng(5)
    return [random_scene(rng) for _ in range(6)]


def put(root: Path, name: str, scene: Scene) -> str:
    """Write the video or image of a scene where its set has it, and return its name."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(draw(scene, np.array([DURATION / 2]), 112)[0]).save(path)
    else:
        write_video(path, scene, fps=8)
    return path.name


def seed_bench_r1(root: Path) -> list[Row]:
    """annotations/training_6k.jsonl: the last row has no progress yet, and no video."""
    rows = []
    for number, scene in enumerate(scenes()):
        shape, source = scene.shapes[0], "EpicKitchens"
        rows.append({
            "sample_id": number, "video_source": source, "video_id": f"P01_{number}", "task_goal": "tell colours",
            "question": f"What color is the {shape.shape}?", "answer": shape.color,
            "negative_answers": [color for color in COLORS if color != shape.color],
            "task_progress_metadata": [{"narration_text": "look", "start_frame": 0, "stop_frame": 64}],
            "current_observation_frame": 64,
            "video_basename": put(root, f"videos/{source}/P01_{number}.mp4", scene),
            "current_observation_basename": put(root, f"images/{source}/P01_{number}.png", scene),
        })  # fmt: skip
    rows[-1] |= {"task_progress_metadata": [], "video_basename": ""}
    return rows


def video_r1(root: Path, thoughts: bool) -> list[Row]:
    """Video-R1-260k.json, or with `thoughts` Video-R1-COT-165k.json: each type of question, videos and images."""
    rows: list[Row] = []
    kinds = ("multiple choice", "numerical", "regression", "OCR", "free-form")
    for number, scene in enumerate(scenes()):
        count, medium = len(scene.shapes), ("image", "Spatial") if number == 0 else ("video", "STAR")
        path = f"{medium[1]}/{number}.{'png' if medium[0] == 'image' else 'mp4'}"
        put(root, path, scene)
        truths = dict(zip(kinds, ("ABC"[count - 1], str(count), str(count), *[f"{count} shapes"] * 2), strict=True))
        for kind in kinds:
            rows.append({
                "problem_id": len(rows), "problem": QUESTION, "data_type": medium[0], "problem_type": kind,
                "options": ["A. 1", "B. 2", "C. 3"] if kind == "multiple choice" else [],
                "process": f"<think>look at all shapes. it is {count}.</think>" if thoughts else "",
                "solution": f"<answer>{truths[kind]}</answer>", "path": f"./{path}", "data_source": medium[1],
            })  # fmt: skip
    return rows


def next_gqa(root: Path, which: int) -> list[Row]:
    """VideoChat-R1's nextgqa_val.json, about one of the shapes of each video."""
    rows = []
    for number, scene in enumerate(scenes()):
        shape = scene.shapes[which]
        put(root, f"1104/{number}.mp4", scene)
        rows.append({
            "id": f"{number}_1", "video": f"1104/{number}.mp4", "question": f"What color is the {shape.shape}?",
            "options": [f"({letter}) {color}" for letter, color in zip("ABCD", COLORS, strict=True)],
            "duration": DURATION, "glue": [[shape.appears, shape.disappears]], "type": "TC",
            "answer": f"({'ABCD'[COLORS.index(shape.color)]})",
        })  # fmt: skip
    return rows


class World:
    """A store with the tiny model as base, and one vLLM engine."""

    def __init__(self, root: Path, sampler: Sampler) -> None:
        self.root, self.sampler = root, sampler
        self.context = StepContext(store=str(root / "store"), seed=3, round=1)
        self.store = self.context.open_store()

    def ingest(self, file: str, rows: Sequence[Row]) -> Outputs:
        """A set's file through ingest, all of it for training."""
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        path.write_text(lines if path.suffix == ".jsonl" else json.dumps(rows))
        settings = IngestSettings(
            annotations=str(path), videos=str(self.root / Path(file).parts[0]), max_prompt_length=400,
            held_out_fraction=0, promotion_fraction=0, max_quarantine_fraction=0, decode_workers=1,
        )  # fmt: skip
        return ingest(settings, self.context)

    def learn(self, given: Outputs, policy: ArtifactRef, settings: WarmupSettings = WARMUP) -> Outputs:
        """The supervised warm-up on a dataset."""
        return warm_up(given.artifacts["dataset"], policy, settings, TrainingSettings(dtype="float32"), self.context)

    def round(self, given: Outputs, policy: ArtifactRef, *reward_funcs: str) -> SimpleNamespace:
        """Difficulty, augmentation and rollout; the groups with and without augmentation, and the dataset's reader."""
        dataset, state = given.artifacts["dataset"], given.artifacts["state"]
        rewards = RewardSettings(reward_funcs=reward_funcs)
        common = {"sampler": self.sampler, "context": self.context, "sampling": SAMPLING, "rewards": rewards}
        before = estimate_difficulty(
            dataset, policy, given.artifacts["buffer"], state, DifficultySettings(), **common
        ).artifacts["difficulty"]
        augmented = augment(dataset, policy, before, state, HARD_AND_EASY, **common).artifacts["augmentation"]
        after = roll_out(dataset, policy, before, augmented, state, RolloutSettings(), **common).artifacts["groups"]
        found = [artifacts.read_groups(self.store.get(each)) for each in (before, after)]
        return SimpleNamespace(
            before=found[0],
            after=found[1],
            reader=DatasetReader(self.store.get(dataset)),
            policy=self.store.get(policy),
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    sampler = make_sampler(ENGINES)
    yield World(tmp_path_factory.mktemp("sets"), sampler)
    sampler.close()


def answer_of(response: Response) -> str:
    """What stands in the only <answer> block of a response in the prompt's format."""
    found = re.fullmatch(r"<think>[^<]*</think>\s*<answer>([^<]*)</answer>(?:<glue>[^<]*</glue>)?", response.text)
    return found[1].strip() if found else ""


def check_round(ran: SimpleNamespace, samples: int, rewards: set[str]) -> None:
    """A group for each sample, with the rewards of its type, under the prompt that the trainer makes of it."""
    processor = load_processor(ran.policy)
    for groups in (ran.before, ran.after):
        assert len(groups) == samples
        for group in groups:
            assert len(group.responses) == SAMPLING.num_generations
            assert group.prompt_token_ids == tuple(
                encode_prompt(processor, group_prompt(group, ran.reader)).input_ids.tolist()
            )
            for response in group.responses:
                assert set(response.rewards) == rewards and response.reward == sum(response.rewards.values())
    assert {group.augmentation.kind for group in ran.after} > {"none"}


def right_letters(groups: Sequence[Group], reader: DatasetReader, truth: dict[str, str]) -> int:
    """How many responses name the right option alone, each of which must have full accuracy, and all others none."""
    right = 0
    for group in groups:
        letter = "ABCDE"[reader.sample(group.sample_id).options.index(truth[group.sample_id])]
        for response in group.responses:
            if answer := answer_of(response):
                assert response.rewards["accuracy"] == (answer == letter)
                right += answer == letter
    return right


def test_seed_bench_r1_is_sampled_with_its_image_beside_the_video(world: World) -> None:
    rows = seed_bench_r1(world.root / "SEED-Bench-R1")
    given = world.ingest("SEED-Bench-R1/annotations/training_6k.jsonl", rows)
    ran = world.round(given, given.artifacts["policy"], "format", "accuracy", "iou")
    check_round(ran, len(rows), {"format", "accuracy"})
    truth = {f"seed_bench_r1/{row['sample_id']}": row["answer"] for row in rows}
    assert right_letters(ran.before + ran.after, ran.reader, truth) > 0
    pads = load_processor(ran.policy)
    for group in ran.before:  # 4 tokens an image or a pair of frames
        alone = group.sample_id.endswith("/5")
        counts = [group.prompt_token_ids.count(token) for token in (pads.video_token_id, pads.image_token_id)]
        assert counts == ([4, 0] if alone else [16, 4])


def test_video_r1_warms_up_on_its_reasoning_and_each_type_has_its_own_accuracy(world: World) -> None:
    root = world.root / "Video-R1-data"
    taught = world.ingest("Video-R1-data/Video-R1-COT-165k.json", video_r1(root, thoughts=True))
    warm = world.learn(taught, taught.artifacts["policy"])
    assert warm.results["targets/response"] == 30 and warm.results["samples_without_target"] == 0
    assert warm.results["loss_last_epoch"] < warm.results["loss_first_epoch"] / 2

    rows = video_r1(root, thoughts=False)
    given = world.ingest("Video-R1-data/Video-R1-260k.json", rows)
    ran = world.round(given, warm.artifacts["policy"], "format", "accuracy", "iou")
    check_round(ran, len(rows), {"format", "accuracy"})
    by_id = {f"video_r1/{row['problem_id']}": row for row in rows}
    earned: dict[str, set[float]] = {}
    for group in ran.before + ran.after:
        row = by_id[group.sample_id]
        truth = row["solution"].removeprefix("<answer>").removesuffix("</answer>")
        for response in group.responses:
            accuracy = response.rewards["accuracy"]
            if (answer := answer_of(response)) and answer in ("A", "B", "C", "0", "1", "2", "3", truth):
                assert accuracy == pytest.approx(by_hand(row["problem_type"], answer, truth))
                earned.setdefault(row["problem_type"], set()).add(accuracy)
    assert set(earned) == {row["problem_type"] for row in rows}
    assert all(max(values) > 0 for values in earned.values())


def by_hand(kind: str, answer: str, truth: str) -> float:
    """The accuracy of a letter, a digit or the truth itself, where the truth is a letter, N, or "N shapes"."""
    if answer == truth:
        return 1.0
    if kind == "regression" and answer.isdigit():  # 1 - relative error
        return max(0.0, 1 - abs(int(answer) - int(truth)) / int(truth))
    if kind in ("OCR", "free-form") and answer == truth.split()[0]:
        # one word of two is missing: word error rate 1/2; F1 of ROUGE-1 and ROUGE-L 2 x 1 / (1 + 2), no pairs of words
        return 0.5 if kind == "OCR" else 2 / 3
    return 0.0


def test_next_gqas_responses_earn_for_letter_moment_and_form(world: World) -> None:
    root, file = world.root / "NExT-GQA", "NExT-GQA/nextgqa_val.json"
    taught = world.ingest(file, next_gqa(root, which=0))
    settings = WARMUP.model_copy(update={"num_train_epochs": 20, "train_batch_size": 2})
    warm = world.learn(
        taught, taught.artifacts["policy"], settings
    )  # the tiny model was never asked for a <glue> block
    rows = next_gqa(root, which=-1)
    assert warm.results["targets/answer"] == len(rows)
    given = world.ingest(file, rows)
    ran = world.round(given, warm.artifacts["policy"], "format", "accuracy", "iou")
    check_round(ran, len(rows), {"format", "accuracy", "iou"})
    by_id = {f"next_gqa/{row['id']}": row for row in rows}
    truth = {name: row["options"]["ABCD".index(row["answer"][1])].split()[1] for name, row in by_id.items()}
    assert right_letters(ran.before + ran.after, ran.reader, truth) > 0
    found = []
    for group in ran.before + ran.after:
        ((begin, end),) = by_id[group.sample_id]["glue"]
        for response in group.responses:
            glue = re.fullmatch(r"(?s).*</answer><glue>(\d+) to (\d+)</glue>", response.text)
            if answer_of(response) and glue and int(glue[1]) < int(glue[2]):
                shared = min(int(glue[2]), end) - max(int(glue[1]), begin)
                union = int(glue[2]) - int(glue[1]) + end - begin - max(0, shared)
                assert response.rewards["iou"] == pytest.approx(max(0, shared) / union)
                assert response.rewards["format"] == 1
                found.append(response.rewards["iou"])
            elif "<glue>" not in response.text:
                assert response.rewards["iou"] == response.rewards["format"] == 0
    assert any(0 < iou < 1 for iou in found)
