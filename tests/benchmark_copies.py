"""Small copies of the nine benchmarks in their publishers' own layout, made from the cases' rows, with videos if wanted."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from components.evaluation.benchmarks import find_benchmark
from components.evaluation.benchmarks.mvbench import FOLDERS
from components.evaluation.benchmarks.responses import missing_media
from tests.videos import write_video

CASES = Path(__file__).parent / "evaluation" / "cases"


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
        video = "episode_1" if task == "episodic_reasoning" else row["video"]  # there videos are folders of pictures
        put(root / f"json/{task}.json", [{**row, "video": video}, {**row, "video": video, "start": 0.5, "end": 9.0}])


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


def write_copy(name: str, root: Path) -> int:
    """The annotations of a small copy, and a real file for each of its videos and images; returns the number of items."""
    make, count = COPIES[name]
    make(root)
    _, media, rows = missing_media(find_benchmark(name), root)
    assert rows == count
    for index, path in enumerate(media):
        _write_medium(root / path, index)
    return count


def _write_medium(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".png", ".jpg"):
        Image.new("RGB", (64, 48), (40 * seed % 256, 90, 160)).save(path)
    elif not path.suffix:
        path.mkdir()
        for index in range(12):
            Image.new("RGB", (64, 48), (20 * index, 90, 160)).save(path / f"{index + 1:05d}.jpg")
    else:  # FFmpeg goes by the content, not by the name
        write_video(path.with_suffix(".mp4"), frames=24, fps=8, seed=seed)
        path.with_suffix(".mp4").rename(path)
