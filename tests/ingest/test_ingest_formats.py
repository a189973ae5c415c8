"""The three public training sets: rows made here in their published forms, from the fields that their own code reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.evaluation.benchmarks import seed_bench_r1
from components.ingest.annotations import Annotations, OptionOrder
from components.ingest.base_model import TINY_WEIGHTS
from components.ingest.errors import IngestError
from components.ingest.formats import FORMATS
from components.ingest.preflight import check_local_inputs
from components.ingest.row_file import Row
from components.ingest.settings import IngestSettings
from components.ingest.sources import FolderSource
from components.ingest.step import ingest
from components.shared.dataset import DatasetReader
from components.shared.policy_inputs import PROCESSOR_KWARGS, load_processor, mrope_positions
from components.shared.rewards.accuracy import is_right
from components.shared.schemas import Quarantined, Sample
from tests.videos import write_video

SEED = {
    "sample_id": 115, "video_source": "EpicKitchens", "video_id": "P01_01", "task_goal": "make tea",
    "question": "Considering the progress shown in the video and my current observation, what should I do next?",
    "answer": "fill kettle", "negative_answers": ["open box", "cut bread", "wash cup", "fill kettle", "take pan"],
    "task_progress_metadata": [{"narration_text": "take kettle", "start_frame": 3, "stop_frame": 40}],
    "current_observation_frame": 44, "video_basename": "P01_01_115.mp4",
    "current_observation_basename": "P01_01_115.png",
}  # fmt: skip
VIDEO_R1 = {
    "problem_id": 7, "problem": "What does the man hold?", "data_type": "video", "problem_type": "multiple choice",
    "options": ["A. a cup", "B. a book"], "process": "", "solution": "<answer>B</answer>",
    "path": "./NeXT-QA/7.mp4", "data_source": "NeXT-QA",
}  # fmt: skip
NEXT_GQA = {
    "id": "4882821564_1", "video": "1104/4882821564.mp4", "question": "why did the boy smile", "duration": 33,
    "options": ["(A) share", "(B) a gift", "(C) the dog", "(D) fun", "(E) game"],
    "glue": [[-0.1, 2.5], [4, 6.25]], "type": "CW", "answer": "(C)",
}  # fmt: skip

GIVEN = OptionOrder()


def read(folder: Path, rows: object, order: OptionOrder = GIVEN) -> list[Row | Quarantined]:
    path = folder / "rows.json"
    path.write_text(json.dumps(rows))
    return list(Annotations(path, "auto", FolderSource(folder).relative, lambda _video: "train", order))


def sample(folder: Path, row: dict[str, object], order: OptionOrder = GIVEN) -> Sample:
    (found,) = read(folder, [row], order)
    assert isinstance(found, Row), found
    return found.sample


@pytest.mark.parametrize(("row", "name"), [(SEED, "seed_bench_r1"), (VIDEO_R1, "video_r1"), (NEXT_GQA, "next_gqa")])
def test_each_set_is_recognised_by_its_rows_and_by_nothing_else(row, name):
    assert [key for key, found in FORMATS.items() if found.recognises(row)][0] == name
    own = {"video": "a.mp4", "question": "?", "answer": "A", "task": "multiple_choice"}
    assert [key for key, found in FORMATS.items() if found.recognises(own)] == ["deepvideo"]


def test_seed_bench_r1_has_the_video_of_the_progress_and_the_image_of_the_present(tmp_path):
    found = sample(tmp_path, SEED)
    assert found.video == "videos/EpicKitchens/P01_01_115.mp4" and found.image == "images/EpicKitchens/P01_01_115.png"
    assert len(found.options) == 4 and found.options["ABCD".index(found.answer)] == "fill kettle"
    assert set(found.options) < {"fill kettle", "open box", "cut bread", "wash cup", "take pan"}
    assert found.metadata["task_goal"] == "make tea" and found.split == "train"


def test_without_progress_the_image_stands_in_the_videos_place(tmp_path):
    found = sample(tmp_path, {**SEED, "task_progress_metadata": []})
    assert (found.video, found.image) == ("images/EpicKitchens/P01_01_115.png", "")


def test_options_are_drawn_by_seed_and_row_and_every_place_is_right_equally_often(tmp_path):
    rows = [{**SEED, "sample_id": number} for number in range(800)]
    drawn = [found.sample.options for found in read(tmp_path, rows)]
    assert drawn == [found.sample.options for found in read(tmp_path, rows)]
    assert drawn != [found.sample.options for found in read(tmp_path, rows, OptionOrder(seed=1))]
    answers = [found.sample.answer for found in read(tmp_path, rows)]
    for letter in "ABCD":  # standard deviation of a count of 800 x 1/4: 12.2
        assert abs(answers.count(letter) - 200) < 5 * 12.2


def test_seed_bench_r1s_validation_rows_keep_their_order_and_never_train(tmp_path):
    row = {key: value for key, value in SEED.items() if key not in ("answer", "negative_answers")}
    row |= {"choice_a": "open box", "choice_b": "fill kettle", "choice_c": "cut", "choice_d": "dry"}
    row |= {"golden_choice_idx": "B", "domain": "Daily life"}
    found, benchmark = sample(tmp_path, row), seed_bench_r1.sample({**row, "level": "L3"})
    assert found.split == "validation" and found.options == benchmark.options and found.answer == benchmark.answer
    assert (found.video, found.image) == (benchmark.video, benchmark.image)


@pytest.mark.parametrize(
    ("kind", "solution", "options", "task", "answer"),
    [
        ("multiple choice", "<answer>B</answer>", ["A. a cup", "B. a book"], "multiple_choice", "B"),
        ("multiple choice", "<answer>a book</answer>", ["A. a cup", "B. a book"], "multiple_choice", "B"),
        ("numerical", "<answer>1,024</answer>", [], "numerical", "1,024"),
        ("regression", "<answer> 3.5 </answer>", [], "regression", "3.5"),
        ("OCR", "<answer>STOP here</answer>", [], "ocr", "STOP here"),
        ("free-form", "<answer>He looks\nfor it.</answer>", [], "free_form", "He looks\nfor it."),
    ],
)
def test_video_r1s_five_types_each_with_its_reasoning(tmp_path, kind, solution, options, task, answer):
    row = {**VIDEO_R1, "problem_type": kind, "solution": solution, "options": options}
    found = sample(tmp_path, row)
    assert (found.task, found.answer, found.response) == (task, answer, "")
    assert found.video == "NeXT-QA/7.mp4" and found.id == "video_r1/7" and found.source == "NeXT-QA"
    letters = row | {"process": "<think>I see a book.\nIt is B.</think>", "solution": f"<answer>{answer}</answer>"}
    taught = sample(tmp_path, letters)
    assert taught.response == f"<think>I see a book.\nIt is B.</think>\n<answer>{answer}</answer>"
    assert is_right(taught, taught.response)


def test_next_gqa_has_spans_that_begin_at_zero_and_bare_options(tmp_path):
    found = sample(tmp_path, NEXT_GQA)
    assert found.task == "grounded_qa" and found.answer == "C" and found.spans == ((0.0, 2.5), (4.0, 6.25))
    assert found.options == ("share", "a gift", "the dog", "fun", "game") and found.video == "1104/4882821564.mp4"


def test_shuffled_options_keep_the_right_one_and_reasoning_keeps_its_letters(tmp_path):
    rows = [{**NEXT_GQA, "id": str(number), "question": f"why {number}"} for number in range(40)]
    order = OptionOrder(shuffle=True, seed=3)
    shuffled = [found.sample for found in read(tmp_path, rows, order)]
    assert all(found.options["ABCDE".index(found.answer)] == "the dog" for found in shuffled)
    assert len({found.options for found in shuffled}) > 20
    assert shuffled == [found.sample for found in read(tmp_path, rows, order)]
    taught = {**VIDEO_R1, "process": "<think>The second.</think>"}
    assert sample(tmp_path, taught, order).options == ("a cup", "a book")


def test_rows_are_asked_as_the_run_says_unless_they_say_it_themselves(public_set, context):
    own = {"video": "NeXT-QA/7.mp4", "question": "When?", "answer": "1 to 2", "task": "temporal_grounding",
           "spans": [[1, 2]], "split": "train"}  # fmt: skip
    rows = [own | {"id": "a", "prompt_template": "videochat_r1"}, own | {"id": "b", "question": "Where?"},
            own | {"id": "c", "question": "Who?", "prompt_template": "video-r1"},
            {"id": "d", "video": own["video"], "question": "How many?", "answer": "3", "task": "numerical"}]  # fmt: skip
    settings = public_set(rows, ["NeXT-QA/7.mp4"], []).model_copy(
        update={"prompt_template": "video_r1", "max_quarantine_fraction": 0.5}
    )
    outputs = ingest(settings, context)
    dataset = DatasetReader(context.open_store().get(outputs.artifacts["dataset"]))
    assert {item.id: item.prompt_template for item in dataset.samples()} == {"a": "videochat_r1", "d": "video_r1"}
    assert [item.detail for item in dataset.quarantine()] == [
        "prompt_template: video_r1 has no words for temporal_grounding, only for multiple_choice, numerical, regression, "
        "ocr, free_form",
        "prompt_template: Input should be 'deepvideo', 'seed_bench_r1', 'video_r1' or 'videochat_r1'",
    ]


def test_a_templates_words_count_in_the_prompts_length(public_set, context):
    short = public_set([VIDEO_R1], ["NeXT-QA/7.mp4"], []).model_copy(update={"max_prompt_length": 500})
    ingest(short, context)  # the policy has a token a byte; the project's own words take some 200
    with pytest.raises(IngestError, match="(?s)prompt_too_long.*raise ingest.max_prompt_length"):
        ingest(short.model_copy(update={"prompt_template": "video_r1"}), context)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({**SEED, "negative_answers": "open box"}, "negative_answers: 'open box' is not a list"),
        ({**SEED, "video_basename": None}, "video_basename: Field required"),
        ({**SEED, "negative_answers": []}, "options: multiple_choice needs 2 to 26 options, got 1"),
        ({**VIDEO_R1, "problem_type": "essay"}, "problem_type: 'essay' is none of multiple choice, numerical"),
        ({**VIDEO_R1, "solution": "B"}, "solution: 'B' is not <answer>...</answer>"),
        ({**VIDEO_R1, "process": "I think so."}, "process: is not <think>...</think>"),
        ({**NEXT_GQA, "answer": "(F)"}, "answer: '(F)' names none of the 5 options"),
        ({**NEXT_GQA, "glue": [[1, 2, 3]]}, "glue: [[1, 2, 3]] is not a list of [start, end]"),
        ({**NEXT_GQA, "glue": [[5, 2]]}, "spans: (5.0, 2.0) must satisfy 0 <= start < end"),
        ({**NEXT_GQA, "video": "a.mp4#t=9,3"}, "video: 'a.mp4#t=9,3' ends before it begins"),
    ],
)
def test_a_bad_row_of_a_public_set_is_named_with_its_field(tmp_path, row, complaint):
    (found,) = read(tmp_path, [row])
    assert isinstance(found, Quarantined) and found.detail.startswith(complaint), found


@pytest.fixture
def public_set(tmp_path, policy_folder):
    """A function that lays out rows with their files, and returns the settings of their ingest."""

    def lay_out(rows: list[dict[str, object]], videos: list[str], images: list[str]) -> IngestSettings:
        root = tmp_path / "set"
        for number, name in enumerate(videos):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            write_video(root / name, frames=40, fps=4, seed=number)
        for name in images:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.effect_noise((80, 60), 50).save(root / name)
        (root / "annotations").mkdir()
        (root / "annotations" / "rows.json").write_text(json.dumps(rows))
        return IngestSettings(
            annotations=str(root / "annotations" / "rows.json"), videos=str(root), model=str(policy_folder),
            max_prompt_length=2000, decode_workers=1, held_out_fraction=0, promotion_fraction=0,
        )  # fmt: skip

    return lay_out


def test_seed_bench_r1_goes_through_ingest_with_and_without_a_video(public_set, context, capsys):
    still = {**SEED, "sample_id": "b_2", "task_progress_metadata": [], "current_observation_basename": "still.jpg"}
    settings = public_set(
        [SEED, still],
        ["videos/EpicKitchens/P01_01_115.mp4"],
        ["images/EpicKitchens/P01_01_115.png", "images/EpicKitchens/still.jpg"],
    )
    check_local_inputs(settings.model_copy(update={"held_out_fraction": 0.5}))
    outputs = ingest(settings, context)
    dataset = DatasetReader(context.open_store().get(outputs.artifacts["dataset"]))
    with_video, alone = dataset.sample("seed_bench_r1/115"), dataset.sample("seed_bench_r1/b_2")
    assert dataset.frames(with_video.video).shape == (8, 56, 56, 3)
    assert dataset.frames(with_video.image).shape == (1, 56, 56, 3)
    assert alone.image == "" and dataset.frames(alone.video).shape == (1, 56, 56, 3)
    terms = "SEED-Bench-R1: annotations Apache-2.0; videos and images under Epic-Kitchens' CC BY-NC 4.0"
    assert capsys.readouterr().out.startswith(terms) and str(outputs.results["terms"]).startswith(terms)


def test_video_r1_goes_through_ingest_with_images_and_videos(public_set, context):
    ocr = {**VIDEO_R1, "problem_id": 8, "problem_type": "OCR", "data_type": "image", "options": [],
           "path": "./OCR/8.png", "solution": "<answer>exit</answer>"}  # fmt: skip
    outputs = ingest(public_set([VIDEO_R1, ocr], ["NeXT-QA/7.mp4"], ["OCR/8.png"]), context)
    assert outputs.results["tasks"] == {"train": {"multiple_choice": 1, "ocr": 1}}


def test_next_gqa_goes_through_ingest_and_a_late_span_is_left_out(public_set, context):
    late = {**NEXT_GQA, "id": "late", "glue": [[10.5, 12]]}  # the video lasts 10 s
    settings = public_set([NEXT_GQA, late], ["1104/4882821564.mp4"], [])
    with pytest.raises(IngestError, match="1 span_outside_video"):
        ingest(settings, context)
    outputs = ingest(settings.model_copy(update={"max_quarantine_fraction": 0.5}), context)
    assert outputs.results["tasks"] == {"train": {"grounded_qa": 1}}


def test_an_image_is_to_the_model_what_a_video_of_one_frame_is():
    processor = load_processor(TINY_WEIGHTS)
    frame = np.random.default_rng(0).integers(0, 255, (56, 84, 3), dtype=np.uint8)
    image = processor.image_processor(images=[frame], do_resize=False, return_tensors="np")
    video = processor.video_processor(videos=[frame[None]], return_tensors="np", **PROCESSOR_KWARGS)
    np.testing.assert_array_equal(image["pixel_values"], video["pixel_values_videos"])
    np.testing.assert_array_equal(image["image_grid_thw"], video["video_grid_thw"])
    (grid,) = (tuple(row) for row in video["video_grid_thw"].tolist())
    tokens = np.prod(grid) // 4
    as_image, as_video = (np.repeat([0, kind, 0], [3, tokens, 5]) for kind in (1, 2))
    np.testing.assert_array_equal(
        mrope_positions(as_image, {1: grid}, 2, 1.0), mrope_positions(as_video, {2: grid}, 2, 4.0)
    )
