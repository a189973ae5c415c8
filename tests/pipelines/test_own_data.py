"""One's own annotations and videos: twenty mp4 files of differing sizes, rates and lengths, two of them broken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from components.report.summary import Summary
from tests.videos import write_video

OPTIONS = ["red", "green", "blue", "white"]
BROKEN = ("clip-07.mp4", "clip-15.mp4")


@pytest.fixture(scope="module")
def own_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    (folder / "videos").mkdir()
    rows = []
    for index in range(20):
        name = f"clip-{index:02d}.mp4"
        size = {"width": 64 + 32 * (index % 5), "height": 64 + 16 * (index % 7)}
        write_video(folder / "videos" / name, **size, fps=5 + index, frames=12 + 7 * index, seed=index)
        for question in ("What color is the first block?", "Which color is seen last?"):
            row = {"video": name, "question": question, "task": "multiple_choice", "options": OPTIONS}
            rows.append(row | {"answer": OPTIONS[index % 4]})
    whole = (folder / "videos" / BROKEN[0]).read_bytes()
    (folder / "videos" / BROKEN[0]).write_bytes(whole[: len(whole) // 3])
    (folder / "videos" / BROKEN[1]).write_bytes(b"")
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_own_data_run_through_and_the_two_broken_videos_are_named(own_data: Path) -> None:
    command = [sys.executable, "-m", "pipelines.cli", "run", "--preset", "kill", "--rounds", "1"]
    command += ["--annotations", str(own_data / "questions.jsonl"), "--videos", str(own_data / "videos")]
    command += ["--set", "ingest.held_out_fraction=0.2", "--set", "ingest.promotion_fraction=0.2"]
    done = subprocess.run([*command, "--output", str(own_data / "run")], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    summary = Summary.model_validate_json((own_data / "run" / "summary.json").read_text())
    assert sorted(item.item for item in summary.data.quarantined) == sorted(BROKEN)
    assert all(item.reason for item in summary.data.quarantined)
    assert all(name in done.stdout for name in BROKEN)
    assert summary.rounds[0].optimizer_steps > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "training.learning_rat=1"], ["training.learning_rat", "no such setting"]),
        (["--set", "sampling.num_generations=1"], ["sampling.num_generations", ">= 2"]),
        (["--annotations", "nowhere.jsonl"], ["nowhere.jsonl"]),
        (["--model", "nowhere/model"], ["nowhere/model"]),
    ],
)
def test_wrong_input_ends_with_a_clear_error_and_no_traceback(
    tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    command = [sys.executable, "-m", "pipelines.cli", "run", "--preset", "kill", "--output", str(tmp_path / "run")]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode in (1, 2)
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr
