"""Loaders and the checker on small files in each benchmark's own layout, made from the cases' rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.evaluation.benchmarks import BENCHMARKS, BenchmarkError, find_benchmark
from components.evaluation.benchmarks.mvbench import FOLDERS
from components.evaluation.benchmarks.responses import missing_media
from components.shared.prompts import option_letter

CASES = Path(__file__).with_name("cases")


def docs(name: str) -> list[dict[str, Any]]:
    return [json.loads(line)["doc"] for line in (CASES / f"{name}.jsonl").read_text().splitlines()]


def put(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(content), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
    elif path.suffix == ".csv":
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, list(content[0]))
            writer.writeheader()
            writer.writerows(content)
    else:
        path.write_text(json.dumps(content))


def seed_bench_r1(root: Path) -> None:
    row = docs("seed_bench_r1")[0]
    image_only = {**row, "sample_id": "uuid_2", "task_progress_metadata": [], "domain": "Work", "scenario": "Office"}
    for level, rows in {"L1": [row], "L2": [row], "L3": [{**row, "domain": "Hobbies"}, image_only]}.items():
        put(
            root / f"annotations/validation_{level}.jsonl", [{k: v for k, v in r.items() if k != "level"} for r in rows]
        )


def longvideobench(root: Path) -> None:
    put(root / "lvb_val.json", docs("longvideobench")[:4])


def next_gqa(root: Path) -> None:
    row = docs("next_gqa")[0]
    options = {f"a{i}": option[4:] for i, option in enumerate(row["options"])}
    shared = {"video_id": "257", "frame_count": 719, "width": 320, "height": 240, "question": row["question"]}
    table = [{**shared, "answer": options["a2"], "qid": qid, "type": "TP", **options} for qid in (8, 9)]
    put(root / "datasets/nextgqa/test.csv", table)
    put(root / "datasets/nextgqa/gsub_test.json", {"257": {"duration": 30, "location": {"8": [[0, 5]]}, "fps": 29.9}})
    put(root / "datasets/nextgqa/map_vid_vidorID.json", {"257": "1101/257"})


def vsi_bench(root: Path) -> None:
    put(root / "test.jsonl", docs("vsi_bench")[:6])


def video_mmmu(root: Path) -> None:
    rows = {
        track: [row for row in docs("video_mmmu") if row["track"] == track] for track in ("Perception", "Adaptation")
    }
    rows["Comprehension"] = docs("video_mmmu")[:3]
    for track, some in rows.items():
        put(root / track / "test-00000-of-00001.parquet", [{k: v for k, v in r.items() if k != "track"} for r in some])


def mmvu(root: Path) -> None:
    open_row = {**docs("mmvu")[0], "id": "validation_99", "question_type": "open-ended", "answer": "Dolly Zoom"}
    put(root / "data/validation.json", [*docs("mmvu"), open_row])


def mvbench(root: Path) -> None:
    row = {k: v for k, v in docs("mvbench")[0].items() if k not in ("task", "index")}
    for task in FOLDERS:
        put(root / f"json/{task}.json", [row, {**row, "start": 1.5, "end": 9.0}])


def tempcompass(root: Path) -> None:
    for file, form in {
        "multi-choice": "multi_choice",
        "yes_no": "yes_no",
        "caption_matching": "caption_matching",
    }.items():
        rows = [row for row in docs("tempcompass") if row["form"] == form and row["dim"] == "action"]
        questions = [{"question": row["question"], "answer": row["answer"]} for row in rows]
        put(root / f"questions/{file}.json", {"1034419625": {"action": questions}})
    caption = next(row for row in docs("tempcompass") if row["form"] == "captioning")
    content = {"1034419625": {"action": [{"question": caption["question"], "answer": caption["answer"]}]}}
    put(root / "questions/captioning.json", content)


def video_mme(root: Path) -> None:
    put(root / "videomme/test-00000-of-00001.parquet", docs("video_mme"))


COPIES: dict[str, tuple[Callable[[Path], None], int]] = {
    "seed_bench_r1": (seed_bench_r1, 4),
    "longvideobench": (longvideobench, 4),
    "next_gqa": (next_gqa, 1),  # question 9 has no spans: it is no part of NExT-GQA
    "vsi_bench": (vsi_bench, 6),
    "video_mmmu": (video_mmmu, 3 + 1 + sum(row["track"] == "Adaptation" for row in docs("video_mmmu"))),
    "mmvu": (mmvu, len(docs("mmvu"))),  # without the open question
    "mvbench": (mvbench, 40),
    "tempcompass": (tempcompass, sum(row["dim"] == "action" and row["form"] != "captioning" for row in docs("tempcompass")) + 1),
    "video_mme": (video_mme, len(docs("video_mme"))),
}  # fmt: skip


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_copy_in_the_official_layout_is_read_and_every_protocol_can_ask_its_questions(
    name: str, tmp_path: Path
) -> None:
    make, count = COPIES[name]
    make(tmp_path)
    benchmark = find_benchmark(name)
    samples = [benchmark.sample(row) for row in benchmark.rows(tmp_path)]
    assert len(samples) == count and len({sample.id for sample in samples}) == count
    for sample in samples:
        assert any(grouping in sample.metadata for grouping in benchmark.groupings)
        for protocol in benchmark.protocols:
            asked = protocol.prompt(sample)
            assert sample.question.splitlines()[0] in asked
            assert all(option in asked for option in sample.options)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_checker_lists_what_a_copy_lacks_file_by_file(name: str, tmp_path: Path) -> None:
    benchmark = find_benchmark(name)
    annotations, media, _ = missing_media(benchmark, tmp_path)
    assert annotations == list(benchmark.annotations) and not media
    with pytest.raises(BenchmarkError, match=str(tmp_path)):
        list(benchmark.rows(tmp_path))
    make, count = COPIES[name]
    make(tmp_path)
    annotations, media, rows = missing_media(benchmark, tmp_path)
    assert not annotations and media and rows == count
    for path in media[1:]:
        put(tmp_path / path, "a video")
    assert missing_media(benchmark, tmp_path)[1] == media[:1]
    put(tmp_path / media[0], "a video")
    assert missing_media(benchmark, tmp_path)[1] == []


def test_the_fields_of_a_row_land_where_they_belong(tmp_path: Path) -> None:
    """One row a benchmark, worked out by hand from the official formats."""
    first = {name: find_benchmark(name).sample(docs(name)[0]) for name in BENCHMARKS}
    assert first["seed_bench_r1"].video == "videos/EpicKitchens/P01_01.mp4"
    assert first["seed_bench_r1"].image == "images/EpicKitchens/P01_01_900.png"
    assert first["longvideobench"].answer == option_letter(1)
    assert first["longvideobench"].metadata == {"duration": "(180, 600]", "category": "S2A"}
    assert first["next_gqa"].answer == "C" and first["next_gqa"].spans == ((0.0, 5.0), (10.0, 15.0))
    assert first["vsi_bench"].task == "regression" and first["vsi_bench"].video == "arkitscenes/41069025.mp4"
    assert first["video_mmmu"].video == "Science/new_Biology_0.mp4"
    assert first["mmvu"].video == "videos/Chemistry/0.mp4" and first["mmvu"].options == ("5", "10", "15", "20", "25")
    assert first["mvbench"].video == "video/ssv2_video/7.webm" and first["mvbench"].answer == "B"
    assert first["tempcompass"].options == ("dribbling", "dunking a ball", "passing")
    assert first["video_mme"].options == ("Two.", "Three.", "Four.", "Five.") and first["video_mme"].answer == "C"


def test_sizes_are_those_of_the_official_sets() -> None:
    sizes = {name: benchmark.size for name, benchmark in BENCHMARKS.items()}
    assert sizes == {
        "seed_bench_r1": 4676, "longvideobench": 1337, "next_gqa": 5553, "vsi_bench": 5130, "video_mmmu": 900,
        "mmvu": 625, "mvbench": 4000, "tempcompass": 7540, "video_mme": 2700,
    }  # fmt: skip
