"""Write the question set: H.264 videos and annotations.jsonl, the same for the same seed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from rich.progress import track

from components.ingest.moving_shapes.drawing import draw
from components.ingest.moving_shapes.questions import Question, ask
from components.ingest.moving_shapes.scenes import DURATION, LookName, Scene, random_scene
from components.shared.schemas import PROMOTION_SPLIT, TRAIN_SPLIT, TUNING_SPLIT, Sample
from components.shared.settings import StepSettings, setting

FRAME_RATES = (8, 10, 12)
FRAME_SIZE = 112
ANNOTATIONS = "annotations.jsonl"
_PROCESSES = 2
# mbtree with B-frames reads memory that was never written (the x264 of PyAV, AVX2): the same frames gave other bytes
_ENCODER = {"crf": "20", "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}
_SCENE_STREAM, _QUESTION_STREAM = 1, 2


class Level(NamedTuple):
    """How a split's videos look and which questions it asks."""

    look: LookName
    unseen_kinds: bool


LEVELS = {
    TRAIN_SPLIT: Level("plain", False),
    TUNING_SPLIT: Level("plain", False),
    PROMOTION_SPLIT: Level("plain", False),
    "L1": Level("plain", False),
    "L2": Level("other", False),
    "L3": Level("other", True),
}


class MovingShapesSettings(StepSettings):
    """How much to generate, and from which seed."""

    seed: int = setting(0, "Seed of scenes, looks and questions.", ge=0)
    train_videos: int = setting(200, "Videos of the train split.", unit="videos", ge=0)
    tuning_videos: int = setting(60, "Videos of the tuning split.", unit="videos", ge=0)
    promotion_videos: int = setting(60, "Videos of the promotion split.", unit="videos", ge=0)
    level_videos: int = setting(70, "Videos of each held-out level: L1, L2, L3.", unit="videos", ge=0)
    questions_per_video: int = setting(3, "Questions about each video, fewer where a scene offers fewer.", ge=1)

    def videos(self, split: str) -> int:
        """How many videos a split has."""
        return getattr(self, f"{split}_videos", self.level_videos)


class Video(NamedTuple):
    """One video to be written, and its questions."""

    name: str  # the file's path inside the folder
    scene: Scene
    fps: int
    questions: tuple[Question, ...]
    samples: tuple[Sample, ...]  # the questions' annotations, in their order


def plan(settings: MovingShapesSettings) -> Iterator[Video]:
    """All videos with their questions. No two have the same scene, in whichever splits they are."""
    seen = set()
    for split_index, (split, level) in enumerate(LEVELS.items()):
        for index in range(settings.videos(split)):
            key = (settings.seed, split_index, index)
            scene_rng = np.random.Generator(np.random.Philox(np.random.SeedSequence((*key, _SCENE_STREAM))))
            scene = random_scene(scene_rng, level.look)
            while scene.content() in seen:
                scene = random_scene(scene_rng, level.look)
            seen.add(scene.content())
            rng = np.random.Generator(np.random.Philox(np.random.SeedSequence((*key, _QUESTION_STREAM))))
            name = f"videos/{split}_{index:04d}.mp4"
            questions = ask(scene, settings.questions_per_video, rng, level.unseen_kinds)
            samples = (q.sample(f"{split}_{index:04d}_{i}", name, split) for i, q in enumerate(questions))
            yield Video(name, scene, int(rng.choice(FRAME_RATES)), tuple(questions), tuple(samples))


def write_video(path: Path, scene: Scene, fps: int) -> None:
    """Write DURATION seconds of `scene` as H.264 in yuv420p; frame i is shown at i / fps seconds."""
    frames = draw(scene, np.arange(DURATION * fps) / fps, FRAME_SIZE)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options=_ENCODER)
        stream.width = stream.height = FRAME_SIZE
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _write(job: tuple[Path, Scene, int]) -> None:
    write_video(*job)


def generate(folder: Path, settings: MovingShapesSettings | None = None, progress: bool = False) -> Path:
    """Generate the question set into `folder` and return `folder`.

    `annotations.jsonl` has one `Sample` a line, whose `video` is a path inside `folder`. Equal settings give the same
    bytes, videos included. `progress` shows a bar.
    """
    settings = settings or MovingShapesSettings()
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    videos = list(plan(settings))
    lines = [sample.model_dump_json() + "\n" for video in videos for sample in video.samples]
    (folder / ANNOTATIONS).write_text("".join(lines), encoding="utf-8")
    jobs = [(folder / video.name, video.scene, video.fps) for video in videos]
    with ProcessPoolExecutor(_PROCESSES, multiprocessing.get_context("spawn")) as pool:
        written = pool.map(_write, jobs, chunksize=8)
        for _ in track(written, "Moving Shapes", total=len(jobs), disable=not progress):
            pass
    return folder
