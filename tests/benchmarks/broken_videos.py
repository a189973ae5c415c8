"""Many files of which some are broken in twelve ways: is each of them quarantined for its reason, and is nothing else lost?

`python -m tests.benchmarks.broken_videos [--files 500 --broken 60 --passes 3 --decoder pyav]`
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from components.shared.dataset import DatasetReader
from tests.benchmarks.ingest_runs import measured, settings_of
from tests.broken_videos import WAYS, write_broken
from tests.videos import write_video

ROWS_A_FILE = 2
_DEADLINE = 10.0  # seconds a video


def write_set(folder: Path, files: int, broken: int) -> tuple[Path, dict[str, str]]:
    """Annotations of `files` videos, `broken` of them spread among the good; (path, reason by broken file)."""
    folder.mkdir(parents=True)
    write_video(folder / "good.mp4", frames=24, fps=8)
    good = (folder / "good.mp4").read_bytes()
    ways, reasons, rows = list(WAYS), {}, []
    for number in range(files):
        name = f"{number:04}.mp4"
        place = number * broken // files
        if (number + 1) * broken // files > place:
            way = ways[place % len(ways)]
            write_broken(folder / name, way, good, seed=number)
            reasons[name] = WAYS[way][1]
        else:
            write_video(folder / name, frames=16 + number % 9, fps=8, seed=number)
        for question in range(ROWS_A_FILE):
            rows.append(
                {"video": name, "question": f"What is in {number}, {question}?", "options": ["red", "blue"],
                 "answer": "A", "task": "multiple_choice", "split": "train"}
            )  # fmt: skip
    path = folder / "annotations.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path, reasons


def check(folder: Path, files: int, broken: int, passes: int, decoder: str) -> dict[str, Any]:
    """Ingest the set `passes` times, each into a store of its own, and tell what came out."""
    path, expected = write_set(folder / "data", files, broken)
    settings = settings_of(
        path, max_quarantine_fraction=1, decode_timeout=_DEADLINE, max_prompt_length=2000, decoder=decoder
    )
    runs, wrong, lost = [], {}, 0
    for number in range(passes):
        store = folder / f"store-{number}"
        runs.append(found := measured(settings, store))
        reader = DatasetReader(store / "dataset" / found["dataset"])
        reasons = {item.item: item.reason for item in reader.quarantine()}
        wrong |= {
            name: reasons.get(name, "not quarantined") for name in expected if reasons.get(name) != expected[name]
        }
        wrong |= {name: reason for name, reason in reasons.items() if name not in expected}
        lost += files * ROWS_A_FILE - len(reader.samples()) - sum(item.samples for item in reader.quarantine())
    return {
        "files": files,
        "broken": len(expected),
        "ways": len(WAYS),
        "wrong_reasons": wrong,
        "lost_rows": lost,
        "same_dataset": len({run["dataset"] for run in runs}) == 1,
        "seconds": [round(run["seconds"], 1) for run in runs],
        "peak_mb": [round(run["peak_mb"]) for run in runs],
        "peak_workers_mb": [round(run["peak_workers_mb"]) for run in runs],
        "reasons": dict(Counter(expected.values())),
    }


def main() -> None:
    """Print the result; exit 1 if a file has another reason than it should, or a row is lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--broken", type=int, default=60)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--decoder", default="decord")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = check(Path(folder), given.files, given.broken, given.passes, given.decoder)
    print(json.dumps(found, indent=1))
    sys.exit(bool(found["wrong_reasons"] or found["lost_rows"]))


if __name__ == "__main__":
    main()
