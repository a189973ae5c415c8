"""A sample of a run's dataset to look at: its frames, as the policy sees them, as a video that any player opens."""

from __future__ import annotations

import re
import shlex
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from rich.console import Console

from components.shared.dataset import DatasetReader
from components.shared.rewards.answers import answer_in_words
from components.shared.schemas import Sample
from pipelines.asking import print_question
from pipelines.run_folder import RunFolder, RunRefused
from pipelines.settings import SettingsError

_SIDE = 336  # pixels: smaller frames are enlarged to about this
_LISTED = 3  # samples of each split


def show_sample(folder: RunFolder, sample_id: str, console: Console) -> Path:
    """Print a sample's question and right answer, and write its video below the run's folder; returns the file.

    Raises RunRefused if the run has no dataset yet, and SettingsError if that has no such sample.
    """
    reader = _dataset(folder)
    known = [sample.id for sample in reader.samples()]
    if sample_id not in known:
        raise SettingsError(
            f"{sample_id}: the run's dataset has no such sample; `deepvideo show --run "
            f"{folder.root}` lists some, and the report names those that it shows"
        )
    sample, record = reader.sample(sample_id), reader.frames_record(reader.sample(sample_id).video)
    path = folder.samples / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', sample_id)}.mp4"
    write_mp4(path, reader.frames(sample.video), record.fps)
    about = {
        "Sample": f"{sample.id}, split {sample.split}, {sample.task}",
        "Video": f"{path}\n{len(record.timestamps)} frames of {record.duration:.1f} s, as the policy sees them",
    }
    print_question(sample, about, console)
    console.print(f"Right answer: {answer_in_words(sample)}", markup=False, highlight=False)
    console.print("\nAsk the trained policy:", highlight=False)
    console.print(f"  {_ask_command(sample, path, folder)}", markup=False, highlight=False, soft_wrap=True)
    return path


def list_samples(folder: RunFolder, console: Console) -> None:
    """Some samples of each split, with their questions."""
    reader = _dataset(folder)
    for split in reader.splits():
        samples = reader.samples(split)
        console.print(f"[bold]{split}[/bold], {len(samples)} samples, such as", highlight=False)
        for sample in samples[:: max(1, len(samples) // _LISTED)][:_LISTED]:
            console.print(f"  {sample.id}  {sample.question}", markup=False, highlight=False)
    console.print("\n`deepvideo show SAMPLE` writes a sample's video and prints its question and answer.")


def write_mp4(path: Path, frames: np.ndarray, fps: float) -> None:
    """Write frames (T, H, W, 3) uint8 as H.264 at `fps`; small ones are enlarged, not smoothed."""
    scale = max(1, _SIDE // frames.shape[1])
    large = frames.repeat(scale, 1).repeat(scale, 2)
    large = np.pad(large, ((0, 0), (0, large.shape[1] % 2), (0, large.shape[2] % 2), (0, 0)), mode="edge")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000), options={"crf": "10"})
        stream.height, stream.width, stream.pix_fmt = large.shape[1], large.shape[2], "yuv420p"
        for frame in large:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _dataset(folder: RunFolder) -> DatasetReader:
    ingested = folder.ingested()
    if ingested is None:
        raise RunRefused(f"{folder.root}: there is no run that has finished its ingest, and so no dataset")
    return DatasetReader(folder.open_store().get(ingested.artifacts["dataset"]))


def _ask_command(sample: Sample, path: Path, folder: RunFolder) -> str:
    options = [word for option in sample.options for word in ("--option", option)]
    task = [] if sample.task in ("multiple_choice", "free_form") else ["--task", sample.task]
    words = ["deepvideo", "ask", str(path), sample.question, *options, *task, "--policy", str(folder.root)]
    return shlex.join(words)
