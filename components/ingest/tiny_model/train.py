"""Train the tiny model from scratch on the CPU: `python -m components.ingest.tiny_model.train` or `make tiny-model`."""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors.torch import load_model, save_model

from components.ingest.moving_shapes.questions import ask, caption, reasoning, response
from components.ingest.moving_shapes.scenes import random_scene
from components.ingest.tiny_model.build import MARKUP, build_model, build_processor
from components.ingest.tiny_model.measure import WEIGHTS, measure
from components.ingest.tiny_model.noise import noisy_lesson
from components.ingest.tiny_model.rows import (
    CAPTION_PROMPT,
    Emphasis,
    Encoder,
    Pool,
    clean_lesson,
    make_pool,
)
from components.ingest.tiny_model.stages import Lesson, Report, Stage, train_language, train_vision
from components.shared import prompts
from components.shared.ledger import code_version

SEED = 0
PROCESSES = 2  # of one thread each: at this size faster than two threads in one, and indifferent to a busy machine
POOL_VIDEOS = 6_000  # in each process
CORPUS_SCENES = 3_000
VISION = Stage(steps=400, videos=48, rate=2e-3)
CAPTIONS = Stage(steps=700, videos=32, rate=2e-3, final=0.3)
QUESTIONS = Stage(steps=1000, videos=10, rate=1.5e-3, final=0.03, emphasis=Emphasis(4, 1))
NOISE = Stage(steps=650, videos=10, rate=6e-4, muon_rate=3e-3, warmup=20, final=0.03, emphasis=Emphasis(3, 1))
QUESTIONS_PER_VIDEO = 5
CAPTION_SHARE = 0.15  # of the rows of the last two stages
CHECKPOINTS = Path("runs/tiny-model")  # what each stage left, so that a run can go on
Reporter = Callable[[int], Report]  # from a number of steps
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # mallopt(3)


def keep_freed_memory() -> None:
    """Let glibc reuse large freed blocks: giving them back and faulting them in again halves the speed of a step."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def corpus(seed: int) -> list[str]:
    """Prompts, responses and captions for the tokenizer; the markup is left out, for it is not to be merged."""
    rng = np.random.default_rng((seed, 0))
    texts = ["user", "assistant", CAPTION_PROMPT]
    for _ in range(CORPUS_SCENES):
        scene = random_scene(rng)
        texts.append(caption(scene))
        for question in (*ask(scene, 10, rng), *ask(scene, 10, rng, unseen=True)):
            texts.append(prompts.question_text(question.sample("x", "x", "train"), hint="x", given_answer="x"))
            texts.append(response(question, question.right, reasoning(question, question.right)))
    for markup in MARKUP:
        texts = [text.replace(markup, "\n") for text in texts]
    return texts


def _save(folder: Path, model: Any, processor: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors writes 0600, which another user in a container could not read


def _stages() -> dict[str, Callable[..., None]]:
    """The stages in order: each takes (model, encoder, pool, rng, reporter of a number of steps)."""

    def vision(model: Any, encoder: Encoder, pool: Pool, rng: np.random.Generator, reporter: Reporter) -> None:
        train_vision(model, pool, VISION, rng, reporter(VISION.steps))

    def language(stage: Stage, lesson: Lesson) -> Callable[..., None]:
        return lambda model, encoder, pool, rng, reporter: train_language(
            model, encoder, pool, stage, lesson, rng, reporter(stage.steps)
        )

    return {
        "vision": vision,
        "captions": language(CAPTIONS, partial(clean_lesson, per_video=1, captions=1.0)),
        "questions": language(QUESTIONS, partial(clean_lesson, per_video=QUESTIONS_PER_VIDEO, captions=CAPTION_SHARE)),
        "noise": language(NOISE, partial(noisy_lesson, per_video=QUESTIONS_PER_VIDEO, captions=CAPTION_SHARE)),
    }


def _train_rank(rank: int, folder: Path, checkpoints: Path, store: str) -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=PROCESSES)
    torch.manual_seed(SEED)  # the same initial weights in every process
    processor = build_processor(corpus(SEED))
    model = build_model(processor)
    encoder = Encoder(processor)
    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn(), TextColumn("loss {task.fields[loss]:.3f}"))  # fmt: skip
    with Progress(*columns, disable=rank > 0) as bar:

        def reporter(name: str, total: int) -> Report:
            task = bar.add_task(name, total=total, loss=float("nan"))
            return lambda loss: bar.update(task, advance=1, loss=loss)

        drawing = bar.add_task("drawing", total=POOL_VIDEOS, loss=float("nan"))
        pool = make_pool(SEED * PROCESSES + rank, POOL_VIDEOS, partial(bar.advance, drawing))
        for number, (name, run) in enumerate(_stages().items()):
            saved = checkpoints / f"{number}-{name}.safetensors"
            there = saved.exists()
            dist.barrier()  # so that no process finds what another one is about to write
            if there:
                load_model(model, saved)
                continue
            run(model, encoder, pool, np.random.default_rng((SEED, 2, rank, number)), partial(reporter, name))
            if rank == 0:
                save_model(model, f"{saved}.part")
                Path(f"{saved}.part").rename(saved)
    if rank == 0:
        _save(folder, model, processor)
    dist.destroy_process_group()


def train(folder: Path, checkpoints: Path) -> None:
    """Train all stages, with a progress bar, in PROCESSES processes; save model and processor into `folder`.

    What a stage leaves is kept in `checkpoints` until the end, by the code's version; a run of the same code that was
    stopped goes on after its last whole stage.
    """
    kept = checkpoints / code_version()
    kept.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as shared:
        mp.spawn(_train_rank, (folder, kept, f"file://{shared}/store"), nprocs=PROCESSES)
    shutil.rmtree(kept)


def main() -> None:
    """Train, measure, print the figures and write them beside the weights' folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder for model and processor")
    parser.add_argument("--checkpoints", type=Path, default=CHECKPOINTS, help="folder for what each stage leaves")
    arguments = parser.parse_args()
    folder = arguments.out
    started = time.monotonic()
    train(folder, arguments.checkpoints)
    figures = {"training_seconds": round(time.monotonic() - started), **measure(folder)}
    (folder.parent / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    json.dump(figures, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
