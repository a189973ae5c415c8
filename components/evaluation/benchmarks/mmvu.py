"""MMVU, its multiple-choice part: expert knowledge in 27 subjects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from components.evaluation.benchmarks import video_r1
from components.evaluation.benchmarks.contracts import (
    Benchmark,
    Decoding,
    FramePolicy,
    JudgeRule,
    Messages,
    Row,
    Scored,
    Scoring,
)
from components.evaluation.benchmarks.rows import field, lettered, read_table
from components.evaluation.benchmarks.strict import strict_protocol
from components.shared.schemas import Sample

NAME = "mmvu"
SOURCE = "yale-nlp/MMVU@4d54223d912f498707c105ab645a921abce6e39a utils/eval_utils.py#get_acc_async"


def rows(files: Sequence[Path]) -> Iterator[Row]:
    """The validation rows with options; open questions are no part of this benchmark."""
    for row in read_table(*files):
        if row.get("question_type") == "multiple-choice":
            yield row


def sample(row: Row) -> Sample:
    """A row as a sample; its video's path is the end of the row's address."""
    address = row.get("video") or field(row, "video_path", NAME)
    subject = (row.get("metadata") or {}).get("subject", "")
    return Sample(
        id=field(row, "id", NAME),
        video="videos/" + str(address).rpartition("videos/")[2],
        question=field(row, "question", NAME),
        options=tuple(text for _, text in sorted(field(row, "choices", NAME).items())),
        answer=field(row, "answer", NAME),
        task="multiple_choice",
        split="validation",
        source=NAME,
        metadata={"subject": subject} if subject else {},
    )


def prompt(sample: Sample) -> str:
    """The official chain-of-thought prompt."""
    options = "\n".join(lettered(sample.options, "{letter}: {option}"))
    return (
        f"\nQuestion: {sample.question}\n{options}\n\nAnswer the given multiple-choice question step by step. Begin by "
        "explaining your reasoning process clearly. Conclude by stating the final answer using the following format: "
        "'Therefore, the final answer is: $LETTER' (without quotes), where $LETTER is one of the options. Think step by\n"
        "step before answering."
    )


def official_score(sample: Sample, text: str) -> Scored:
    """The original has no rules: a judge decides on every response."""
    return Scored(score=None, parsed=text, needs_judge=True, failure="a judge decides on every response")


def _messages(sample: Sample, text: str) -> Messages:
    system = (
        "You judge whether a response's final answer to a multiple-choice question is the known one. Extract the final "
        "answer first, then compare. Reply with JSON alone: "
        '{"extracted_answer": "a single letter", "correct": true or false}'
    )
    options = "\n".join(lettered(sample.options, "{letter}: {option}"))
    facts = f"Question: {sample.question}\n\nOptions:\n{options}\n\nKnown answer: {sample.answer}\n\nResponse: {text}"
    return [{"role": "system", "content": system}, {"role": "user", "content": facts}]


def read_judgement(sample: Sample, reply: str) -> float | None:
    """The judge's `correct`, whatever letter it extracted; None for a reply that is not both fields in JSON."""
    try:
        judged = json.loads(reply)
    except ValueError:
        return None
    if not isinstance(judged, dict) or not isinstance(judged.get("extracted_answer"), str):
        return None
    return float(judged["correct"]) if isinstance(judged.get("correct"), bool) else None


BENCHMARK = Benchmark(
    name=NAME,
    title="MMVU (multiple choice)",
    figures=("accuracy",),
    groupings=("subject",),
    size=625,
    annotations=(("data/validation.json", "validation.json"),),
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
            FramePolicy(max_frames=10),
            Decoding(temperature=1.0, max_new_tokens=1024),
            judge=JudgeRule(
                _messages, read_judgement, lambda sample: 0.0, 10, Decoding(temperature=1.0, max_new_tokens=128)
            ),
        ),
        video_r1.PROTOCOL,
    ),
    paper="video_r1",
)
