"""Video-MME without subtitles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from components.evaluation.benchmarks import video_r1
from components.evaluation.benchmarks.capitals import first_capital
from components.evaluation.benchmarks.contracts import Benchmark, Decoding, FramePolicy, Row, Scored, Scoring
from components.evaluation.benchmarks.rows import field, lettered, read_table
from components.evaluation.benchmarks.strict import strict_protocol
from components.shared.public_rows import bare_options
from components.shared.schemas import Sample

NAME = "video_mme"
SOURCE = "thanku-all/parse_answer@afd52cfe3dde5b3685e0d4f760c10c756860c758 eval_your_results.py#eval_your_results"
# Two commas are missing in the original, so that four of its lead-ins run together and never occur.
_LEAD_INS = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option isThe correct option is",
    "Best answer:Best option:",
    "Answer:",
    "Option:",
    "The correct answer",
    "The correct option",
)


def rows(files: Sequence[Path]) -> Iterator[Row]:
    """The rows of the test split."""
    return read_table(*files)


def sample(row: Row) -> Sample:
    """A row as a sample."""
    return Sample(
        id=field(row, "question_id", NAME),
        video=f"data/{field(row, 'videoID', NAME)}.mp4",
        question=field(row, "question", NAME),
        options=bare_options(field(row, "options", NAME)),
        answer=field(row, "answer", NAME),
        task="multiple_choice",
        split="test",
        source=NAME,
        metadata={
            name: str(row[name]) for name in ("duration", "domain", "sub_category", "task_type") if row.get(name)
        },
    )


def prompt(sample: Sample) -> str:
    """The official prompt without subtitles."""
    return "\n".join(
        [
            "Select the best answer to the following multiple-choice question based on the video. Respond with only the "
            "letter (A, B, C, or D) of the correct option.",
            sample.question,
            *lettered(sample.options),
            "The best answer is:",
        ]
    )


def official_score(sample: Sample, text: str) -> Scored:
    """The first capital A to D anywhere, some lead-ins cut out; a response without one leaves the denominator."""
    letter = first_capital(text, "ABCD", _LEAD_INS)
    if not letter:
        return Scored(score=None, failure="no capital A to D: left out of the denominator")
    return Scored(score=float(letter == sample.answer), parsed=letter)


BENCHMARK = Benchmark(
    name=NAME,
    title="Video-MME (without subtitles)",
    figures=("accuracy",),
    groupings=("duration", "domain", "task_type"),
    size=2700,
    annotations=(("videomme/*.parquet", "*.parquet", "videomme.jsonl"),),
    read=rows,
    sample=sample,
    protocols=(
        strict_protocol(video_r1.FRAMES),
        Scoring(
            "official",
            1,
            SOURCE,
            official_score,
            prompt,
            FramePolicy(max_frames=64),
            Decoding(temperature=0.0, max_new_tokens=16),
        ),
        video_r1.PROTOCOL,
    ),
    paper="video_r1",
)
