"""A large annotation file over few small videos: rows a second after decoding, and memory at the highest.

`python -m tests.benchmarks.million_rows [--rows 1000000 --videos 1000]`
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.ingest_runs import measured, settings_of
from tests.videos import write_video


def write_set(folder: Path, rows: int, videos: int) -> Path:
    """Distinct questions, as many about each video."""
    folder.mkdir(parents=True)
    for number in range(videos):
        write_video(folder / f"{number:04}.mp4", frames=8, fps=8, width=32, height=32, seed=number)
    with open(folder / "annotations.jsonl", "w") as out:
        for number in range(rows):
            row = {
                "video": f"{number % videos:04}.mp4",
                "question": f"Which of the squares is at the top when the clock shows {number}?",
                "options": ["the red one", "the blue one", "the green one", "none of them"],
                "answer": "ABCD"[number % 4],
                "task": "multiple_choice",
                "split": "train",
            }
            out.write(json.dumps(row) + "\n")
    return folder / "annotations.jsonl"


def measure(folder: Path, rows: int, videos: int) -> dict[str, Any]:
    """Ingest the set once."""
    annotations = write_set(folder / "data", rows, videos)
    found = measured(settings_of(annotations, max_prompt_length=2000), folder / "store")
    rest = found["seconds"] - found["decode_seconds"]
    return {
        "rows": rows,
        "samples": found["samples"],
        "files_decoded": found["files_decoded"],
        "seconds": round(found["seconds"], 1),
        "cpu_seconds": round(found["cpu_seconds"], 1),
        "decode_seconds": round(found["decode_seconds"], 1),
        "rows_a_second_after_decoding": round(rows / rest),
        "peak_mb": round(found["peak_mb"]),
        "peak_workers_mb": round(found["peak_workers_mb"]),
    }


def main() -> None:
    """Print the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--videos", type=int, default=1_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), given.rows, given.videos), indent=1))


if __name__ == "__main__":
    main()
