"""VSI-Bench: spatial questions on indoor scans, multiple choice and numerical."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from components.evaluation.benchmarks import video_r1
from components.evaluation.benchmarks.contracts import Benchmark, Decoding, FramePolicy, Row, Scored, Scoring
from components.evaluation.benchmarks.rows import field, lettered, read_table
from components.evaluation.benchmarks.strict import strict_protocol
from components.shared.public_rows import bare_options
from components.shared.schemas import Sample

NAME = "vsi_bench"
SOURCE = (
    "vision-x-nyu/thinking-in-space@51e089c3ae69b9435e9489058610f5b3964c56a8 "
    "lmms_eval/tasks/vsibench/utils.py#vsibench_process_results"
)
_DIRECTION = "object_rel_direction"


def rows(files: Sequence[Path]) -> Iterator[Row]:
    """The rows of the full test set."""
    return read_table(*files)


def sample(row: Row) -> Sample:
    """A row as a sample: multiple choice if it has options, else regression."""
    kind = field(row, "question_type", NAME)
    options = bare_options(row.get("options") or ())
    return Sample(
        id=str(field(row, "id", NAME)),
        video=f"{field(row, 'dataset', NAME)}/{field(row, 'scene_name', NAME)}.mp4",
        question=field(row, "question", NAME),
        options=options,
        answer=str(field(row, "ground_truth", NAME)),
        task="multiple_choice" if options else "regression",
        split="test",
        source=NAME,
        metadata={
            "task": _DIRECTION if kind.startswith(_DIRECTION) else kind,
            "question_type": kind,
            "form": "multiple choice" if options else "number",
        },
    )


def prompt(sample: Sample) -> str:
    """The official prompt for local models."""
    lines = ["These are frames of a video.", sample.question]
    if not sample.options:
        return "\n".join([*lines, "Please answer the question using a single word or phrase."])
    ask = "Answer with the option's letter from the given choices directly."
    return "\n".join([*lines, "Options:", *lettered(sample.options), ask])


def official_score(sample: Sample, text: str) -> Scored:
    """The first word, trailing points removed: equal without case, or mean relative accuracy by `<=`."""
    word = text.split(" ")[0].rstrip(".").strip()
    if sample.options:
        readable = len(word) == 1 and word.isalpha()
        return Scored(
            score=float(word.lower() == sample.answer.lower()),
            parsed=word,
            failure="" if readable else "the first word is no option letter",
        )
    try:
        given = float(word)
    except ValueError:
        return Scored(score=0.0, parsed=word, failure="the first word is no number")
    return Scored(score=relative_accuracy(given, float(sample.answer)), parsed=word)


def relative_accuracy(given: float, truth: float) -> float:
    """Mean relative accuracy in floats: their rounding decides at the thresholds (an error of 0.2 gives 0.6, 0.1 gives 0.9)."""
    steps = int((0.95 - 0.5) / 0.05 + 2)  # 10.999..., so 10
    return float(np.mean(abs(given - truth) / truth <= 1 - np.linspace(0.5, 0.95, steps)))


BENCHMARK = Benchmark(
    name=NAME,
    title="VSI-Bench",
    figures=("accuracy",),
    groupings=("task", "question_type", "form"),
    size=5130,
    annotations=(("test.jsonl", "full/*.parquet", "*.parquet"),),
    read=rows,
    sample=sample,
    headline=("task", "question_type"),
    protocols=(
        strict_protocol(video_r1.FRAMES),
        Scoring(
            "official",
            1,
            SOURCE,
            official_score,
            prompt,
            FramePolicy(max_frames=32),
            Decoding(temperature=0.0, max_new_tokens=16),
        ),
        video_r1.PROTOCOL,
    ),
    paper="video_r1",
)
