from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

import decord
import numpy as np
import pytest

from components.ingest.annotations import Annotations
from components.ingest.moving_shapes.drawing import draw, draw_batch
from components.ingest.moving_shapes.generate import (
    ANNOTATIONS,
    FRAME_SIZE,
    LEVELS,
    MovingShapesSettings,
    generate,
    plan,
    write_video,
)
from components.ingest.moving_shapes.questions import TRAIN_KINDS, UNSEEN_KINDS, ask, reasoning, response
from components.ingest.moving_shapes.scenes import COLORS, DURATION, Scene, random_scene
from components.ingest.row_file import Row
from components.ingest.sources import FolderSource
from components.shared import prompts
from components.shared.files import sha256_bytes
from components.shared.rewards.accuracy import accuracy_reward
from components.shared.rewards.format import format_reward
from components.shared.schemas import Sample

SMALL = MovingShapesSettings(seed=3, train_videos=4, tuning_videos=2, promotion_videos=2, level_videos=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("shapes"), SMALL)


def annotations(folder: Path) -> list[Sample]:
    return [Sample.model_validate_json(line) for line in (folder / ANNOTATIONS).read_text().splitlines()]


def test_equal_seeds_give_equal_bytes_whatever_the_memory_held_before(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALLOC_PERTURB_", "85")  # glibc fills what it allocates: an encoder that reads it is found out
    again = generate(tmp_path / "again", SMALL)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert len(files) == 1 + 4 + 2 + 2 + 3 * 2
    assert all((again / file).read_bytes() == (folder / file).read_bytes() for file in files)
    other = [v.samples for v in plan(SMALL.model_copy(update={"seed": 4}))]
    assert other != [v.samples for v in plan(SMALL)]


def test_samples_and_prompts_are_those_of_the_published_figures(tmp_path: Path) -> None:
    # known answers: whoever changes them makes the figures in README.md and tests/benchmarks/results incomparable
    lines = [sample.model_dump_json() + "\n" for video in plan(MovingShapesSettings()) for sample in video.samples]
    (tmp_path / ANNOTATIONS).write_text("".join(lines))
    rows = list(Annotations(tmp_path / ANNOTATIONS, "auto", FolderSource(tmp_path).relative, lambda video: "train"))
    samples = [row.sample for row in rows if isinstance(row, Row)]
    stored = "".join(sample.model_dump_json() + "\n" for sample in samples)
    asked = "".join(prompts.question_text(item, hint="look", given_answer=item.answer) + "\n" for item in samples)
    assert len(rows) == len(samples) == 1588
    assert sha256_bytes(stored.encode()) == "5f57c5afebd51c05d0af40e87e59a1fecef10ea63c2f4798ef3bc27110c18c69"
    assert sha256_bytes(asked.encode()) == "d6a25a01ea6fb68cec07ced7dd72ddfeb00efdd10851e5004e2d96def2f6a674"


def test_every_annotation_has_its_video_and_every_split_is_there(folder: Path) -> None:
    samples = annotations(folder)
    assert {s.split for s in samples} == set(LEVELS)
    assert len({s.id for s in samples}) == len(samples)
    assert all((folder / s.video).is_file() for s in samples)


def test_no_scene_and_no_question_about_it_occurs_in_two_splits() -> None:
    splits = defaultdict(set)
    for video in plan(MovingShapesSettings()):
        for sample in video.samples:
            splits[video.scene.shapes, sample.question].add(sample.split)
        splits[video.scene.shapes].add(video.samples[0].split)
    assert all(len(names) == 1 for names in splits.values())


def test_defaults_give_at_least_200_questions_a_level_and_unseen_kinds_only_in_the_last() -> None:
    kinds, count = defaultdict(set), defaultdict(int)
    for video in plan(MovingShapesSettings()):
        for sample in video.samples:
            kinds[sample.split].add(sample.metadata["kind"])
            count[sample.split] += 1
    assert all(count[level] >= 200 for level in ("L1", "L2", "L3"))
    assert kinds["train"] == kinds["L1"] == kinds["L2"] == set(TRAIN_KINDS)
    assert kinds["L3"] == set(UNSEEN_KINDS)


def test_decord_reads_the_times_and_the_pixels_that_were_drawn(tmp_path: Path) -> None:
    scene, fps = random_scene(np.random.default_rng(5)), 12
    write_video(tmp_path / "v.mp4", scene, fps)
    reader = decord.VideoReader(str(tmp_path / "v.mp4"))
    assert len(reader) == DURATION * fps
    assert reader.get_avg_fps() == pytest.approx(fps)
    starts = reader.get_frame_timestamp(range(len(reader)))[:, 0]
    np.testing.assert_allclose(starts, np.arange(DURATION * fps) / fps, atol=1e-3)
    decoded = reader[30].asnumpy().astype(float)
    drawn = draw(scene, np.array([30 / fps]), FRAME_SIZE)[0].astype(float)
    assert np.abs(decoded - drawn).mean() < 4  # grey levels; H.264 with half-resolution colour


def test_many_scenes_at_once_are_drawn_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    scenes = [random_scene(rng, look) for look in ("plain", "other", "plain")]
    times = np.sort(rng.uniform(0, DURATION, (3, 5)), 1)
    together = draw_batch(scenes, times, 56)
    for index, scene in enumerate(scenes):
        np.testing.assert_array_equal(together[index], draw(scene, times[index], 56))


def seen(scene: Scene, color: str, times: np.ndarray) -> list[tuple[float, float] | None]:
    """Where `color` is at each time, read off the pixels: its centroid in frame sides, None where it is not there."""
    shade = np.array(scene.look.shades[COLORS.index(color)], float)
    found = []
    for frame in draw(scene, times, 112).astype(float):
        rows, columns = np.nonzero(np.abs(frame - shade).max(-1) < 3)
        found.append((columns.mean() / 112, rows.mean() / 112) if len(rows) > 20 else None)
    return found


def test_answers_agree_with_what_the_pixels_show() -> None:
    """Every answer is worked out again from drawn frames alone, by colour, without the scene's fields."""
    rng = np.random.default_rng(11)
    times = np.arange(DURATION) + 0.5
    checked = defaultdict(int)
    for _ in range(150):
        scene = random_scene(rng)
        colors = {s.shape: s.color for s in scene.shapes}
        if len(set(colors.values())) != len(colors):
            continue
        tracks = {shape: seen(scene, color, times) for shape, color in colors.items()}
        shown = {shape: [k for k, at in enumerate(track) if at] for shape, track in tracks.items()}
        for question in ask(scene, len(TRAIN_KINDS), rng):
            kind, name = question.kind, question.subject
            if kind == "color":
                expected = colors[name]
            elif kind == "shape":
                expected = next(shape for shape, color in colors.items() if color == name)
            elif kind == "first":
                expected = min(shown, key=lambda shape: shown[shape][0])
            elif kind == "count":
                expected = str(len(shown))
            elif kind == "count color":
                expected = str(sum(color == name for color in colors.values()))
            elif kind == "visible":
                expected = f"{shown[name][0]} to {shown[name][-1] + 1}"
            else:
                (x1, y1), (x2, y2) = tracks[name][shown[name][0]], tracks[name][shown[name][-1]]
                dx, dy = x2 - x1, y2 - y1
                seconds = shown[name][-1] - shown[name][0]
                speed = max(abs(dx), abs(dy)) / seconds
                vx, vy = dx / seconds / 2, dy / seconds / 2  # from the middle of a second to its edge
                if kind == "start":
                    expected = f"{'top' if y1 - vy < 0.5 else 'bottom'} {'left' if x1 - vx < 0.5 else 'right'}"
                elif kind == "end":
                    expected = f"{'top' if y2 + vy < 0.5 else 'bottom'} {'left' if x2 + vx < 0.5 else 'right'}"
                elif kind == "speed":
                    expected = "still" if speed < 0.02 else "slow" if speed < 0.07 else "fast"
                else:
                    across, along = "right" if dx > 0 else "left", "down" if dy > 0 else "up"
                    expected = across if abs(dx) > abs(dy) else along
            assert question.right == expected, (question, scene)
            assert question.answer_of(expected) == question.answer
            checked[kind] += 1
    assert set(checked) == set(TRAIN_KINDS)
    assert min(checked.values()) >= 10


def test_the_reasoning_names_the_answer_only_in_its_conclusion() -> None:
    rng = np.random.default_rng(2)
    for index in range(300):
        for question in ask(random_scene(rng), 6, rng, unseen=index % 2 == 1):
            sentences = reasoning(question, question.right)
            before = " ".join(sentences[:-1])
            if "start" not in question.kind:  # other facts come first, and may be told in the same words
                before = re.sub(r"(from|to) (top|bottom|middle)( left| right)?", "", before)
            forms = [question.right, *([question.answer] if question.options else [])]
            forms += question.right.split(" to ") if question.spans else []
            assert not any(re.search(rf"\b{re.escape(form)}\b", before) for form in forms), (question, before)
            text = response(question, question.right, sentences)
            assert prompts.is_well_formed(text)
            assert prompts.extract_answer(text) == question.answer


def test_wrong_answers_are_never_right() -> None:
    rng = np.random.default_rng(4)
    for _ in range(200):
        for question in ask(random_scene(rng), 6, rng):
            wrong = question.wrong_answers(rng)
            assert wrong and question.right not in wrong
            assert len({question.answer_of(words) for words in wrong}) == len(wrong)


def test_annotations_hold_no_reasoning_but_in_the_response_to_learn_from(folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / ANNOTATIONS).read_text().splitlines()]
    assert all(row["metadata"].keys() == {"kind"} for row in rows)
    assert all(row.pop("response").startswith("<think>") for row in rows)
    assert "<think>" not in json.dumps(rows)


def test_every_question_brings_a_right_response_that_no_prompt_shows() -> None:
    for video in plan(SMALL):
        for sample in video.samples:
            assert format_reward(sample, sample.response) == 1 and accuracy_reward(sample, sample.response) == 1
            untaught = sample.model_copy(update={"response": ""})
            assert prompts.messages(sample) == prompts.messages(untaught)
            assert sample.response not in str(prompts.messages(sample))
