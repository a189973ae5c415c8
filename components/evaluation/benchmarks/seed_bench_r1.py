"""SEED-Bench-R1: next actions in egocentric videos, on three levels. L3 is reported by domain as well."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from components.evaluation.benchmarks.contracts import Benchmark, Decoding, FramePolicy, Row, Scored, Scoring
from components.evaluation.benchmarks.rows import field, read_table
from components.evaluation.benchmarks.strict import strict_protocol
from components.shared.prompt_templates import seed_bench_r1 as prompt
from components.shared.prompts import option_letter
from components.shared.public_rows import seed_bench_r1_media
from components.shared.schemas import Sample

NAME = "seed_bench_r1"
LEVELS = ("L1", "L2", "L3")
SOURCE = "TencentARC/SEED-Bench-R1@12e8fccbd9de626a4c1c617c4a48cf2927b77c6e infer.py#accuracy_reward"
FRAMES = FramePolicy(fps=2, min_frames=4, max_frames=16, size=(252, 252))
DECODING = Decoding(temperature=1.0, max_new_tokens=256)

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def rows(files: Sequence[Path]) -> Iterator[Row]:
    """The validation rows of these levels' files, each with its `level`."""
    for file in files:
        for row in read_table(file):
            yield {"level": file.stem.removeprefix("validation_"), **row}


def sample(row: Row) -> Sample:
    """A row as a sample. Where no progress was recorded there is no video: the current observation stands alone."""
    level = row.get("level", "L1")
    for name in ("video_source", "current_observation_basename"):
        field(row, name, NAME)
    video, image = seed_bench_r1_media(row)
    groups = {"level": level} | ({"domain": f"{level} {row['domain']}"} if row.get("domain") else {})
    return Sample(
        id=f"{level}/{field(row, 'sample_id', NAME)}",
        video=video,
        image=image,
        question=field(row, "question", NAME),
        options=tuple(field(row, f"choice_{letter}", NAME) for letter in "abcd"),
        answer=field(row, "golden_choice_idx", NAME),
        task="multiple_choice",
        split=level,
        source=NAME,
        metadata=groups,
    )


def official_score(sample: Sample, text: str) -> Scored:
    """The first character of the first <answer> block against the letter: "(B)" is wrong, "Because ..." is B.

    The original tries math_verify first; it never fires, since it reads nothing from a truth like "<answer>B.</answer>".
    """
    found = _ANSWER.search(text)
    if not found:
        return Scored(score=0.0, failure="no <answer> block")
    answer = found.group(1).strip()
    if not answer:
        return Scored(score=0.0, failure="empty answer")
    letters = [option_letter(index) for index in range(len(sample.options))]
    failure = "" if answer[0] in letters else "does not begin with an option letter"
    return Scored(score=float(answer[0] == sample.answer[0]), parsed=answer[0], failure=failure)


OFFICIAL = Scoring("official", 1, SOURCE, official_score, prompt, FRAMES, DECODING)
BENCHMARK = Benchmark(
    name=NAME,
    title="SEED-Bench-R1",
    figures=("accuracy",),
    groupings=("level", "domain"),
    size=2432 + 923 + 1321,
    annotations=tuple((f"annotations/validation_{level}.jsonl",) for level in LEVELS),
    apart=True,
    read=rows,
    sample=sample,
    protocols=(strict_protocol(FRAMES), OFFICIAL),
    paper="official",
)
