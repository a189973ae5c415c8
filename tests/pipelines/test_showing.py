"""A sample's video and question, from a real ingest of real videos."""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path

import av
import numpy as np
import pytest
from rich.console import Console

from components.ingest.settings import IngestSettings
from components.ingest.step import ingest
from components.shared.context import StepContext
from components.shared.dataset import DatasetReader
from pipelines.run_folder import RunFolder, RunRefused
from pipelines.settings import SettingsError, build_settings
from pipelines.showing import list_samples, show_sample
from tests.videos import write_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run whose ingest is finished."""
    root = tmp_path_factory.mktemp("shown")
    rows = []
    for index in range(3):
        write_video(root / f"clip-{index}.mp4", frames=20, fps=5, seed=index)
        row = {"id": f"clip/{index}", "video": f"clip-{index}.mp4", "question": "What is first?", "answer": "blue"}
        rows.append(row | {"options": ["red", "blue"], "task": "multiple_choice", "split": "train"})
    (root / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = RunFolder(root / "run")
    settings = IngestSettings(annotations=str(root / "a.jsonl"), decode_workers=1)
    name = run.start(build_settings({"ingest.annotations": settings.annotations})).name
    ingest(settings, StepContext(store=run.store, run_name=name))
    return run


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=80)


def said(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_sample_becomes_a_video_with_its_frames_and_its_question(folder: RunFolder, console: Console) -> None:
    path = show_sample(folder, "clip/1", console)
    assert path == folder.root / "samples" / "clip_1.mp4"
    ingested = folder.ingested()
    assert ingested is not None
    reader = DatasetReader(folder.open_store().get(ingested.artifacts["dataset"]))
    stored, record = reader.frames("clip-1.mp4"), reader.frames_record("clip-1.mp4")
    with av.open(str(path)) as video:
        shown = np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])
        rate = float(video.streams.video[0].average_rate)
    assert rate == pytest.approx(record.fps, rel=1e-3)
    assert shown.shape == (len(stored), 336, 336, 3)  # 56 pixels six times enlarged
    small = shown.reshape(len(stored), 56, 6, 56, 6, 3).mean((2, 4))
    assert np.abs(small - stored).mean() < 12  # yuv420p halves the colours' resolution
    words = said(console)
    assert "B. blue" in words and "Right answer: B. blue" in words


def test_the_command_that_asks_again_can_be_pasted(folder: RunFolder, console: Console) -> None:
    path = show_sample(folder, "clip/2", console)
    command = shlex.split(said(console).strip().splitlines()[-1])
    asked = ["deepvideo", "ask", str(path), "What is first?", "--option", "red", "--option", "blue"]
    assert command == [*asked, "--policy", str(folder.root)]


def test_without_a_sample_some_are_listed(folder: RunFolder, console: Console) -> None:
    list_samples(folder, console)
    assert "train, 3 samples" in said(console) and "clip/0  What is first?" in said(console)


def test_an_unknown_sample_is_refused_with_where_to_find_some(folder: RunFolder, console: Console) -> None:
    with pytest.raises(SettingsError, match="clip/11: the run's dataset has no such sample; `deepvideo show --run"):
        show_sample(folder, "clip/11", console)


def test_a_run_without_a_dataset_is_refused(tmp_path: Path, console: Console) -> None:
    with pytest.raises(RunRefused, match="has finished its ingest"):
        list_samples(RunFolder(tmp_path), console)
