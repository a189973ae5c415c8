"""LongVideoBench, validation split, without subtitles. Its own scorer is lmms-eval's; it has no other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from components.evaluation.benchmarks import seed_bench_r1, video_r1
from components.evaluation.benchmarks.capitals import first_capital
from components.evaluation.benchmarks.contracts import Benchmark, Decoding, FramePolicy, Row, Scored, Scoring
from components.evaluation.benchmarks.rows import field, lettered, read_table
from components.evaluation.benchmarks.strict import strict_protocol
from components.shared.prompts import option_letter
from components.shared.schemas import Sample

NAME = "longvideobench"
SOURCE = (
    "EvolvingLMMs-Lab/lmms-eval@75571cfe0fa36ca5ec2e6aa2bb268f9d38295af3 "
    "lmms_eval/tasks/longvideobench/utils.py#longvideobench_process_results"
)
_GROUPS = {
    "15": "(8, 15]",
    "60": "(15, 60]",
    "600": "(180, 600]",
    "3600": "(900, 3600]",
}  # seconds, as papers name them
_LEAD_INS = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option is",
    "The correct option is",
    "Best answer:",
    "Best option:",
)


def rows(files: Sequence[Path]) -> Iterator[Row]:
    """The validation rows."""
    return read_table(*files)


def sample(row: Row) -> Sample:
    """A row of the JSON file (`candidates`) or of the Parquet file (`option0` to `option4`, "N/A" where there is none)."""
    options = row.get("candidates") or [row[f"option{i}"] for i in range(5) if row.get(f"option{i}", "N/A") != "N/A"]
    group = str(field(row, "duration_group", NAME))
    return Sample(
        id=field(row, "id", NAME),
        video=f"videos/{field(row, 'video_path', NAME)}",
        question=field(row, "question", NAME),
        options=tuple(options),
        answer=option_letter(int(field(row, "correct_choice", NAME))),
        task="multiple_choice",
        split="validation",
        source=NAME,
        metadata={"duration": _GROUPS.get(group, group), "category": field(row, "question_category", NAME)},
    )


def prompt(sample: Sample) -> str:
    """The question, its options, and one line."""
    ask = "Answer with the option's letter from the given choices directly.\n"
    return "\n".join([sample.question, *lettered(sample.options), ask])


def official_score(sample: Sample, text: str) -> Scored:
    """The first capital A to E anywhere, some lead-ins cut out ("Answer:" is none of them).

    Without one the original draws an option by a random generator that all questions share. Here such a response
    earns what it earns on average, 1 / options.
    """
    letter = first_capital(text, "ABCDE", _LEAD_INS)
    if not letter:
        return Scored(score=1 / len(sample.options), failure="no capital A to E: an option by chance")
    return Scored(score=float(letter == sample.answer), parsed=letter)


BENCHMARK = Benchmark(
    name=NAME,
    title="LongVideoBench (validation)",
    figures=("accuracy",),
    groupings=("duration", "category"),
    size=1337,
    annotations=(("lvb_val.json", "validation*.parquet"),),
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
            FramePolicy(max_frames=64, indices="stride"),
            Decoding(temperature=0.0, max_new_tokens=32),
        ),
        Scoring(  # where the paper's numbers come from
            "seed_bench_r1",
            1,
            seed_bench_r1.SOURCE,
            seed_bench_r1.official_score,
            seed_bench_r1.prompt,
            seed_bench_r1.FRAMES,
            seed_bench_r1.DECODING,
        ),
    ),
    paper="seed_bench_r1",
)
