"""The scores artifact: `scores.json` (figures with intervals), `answers.parquet` (every answer), `flips.jsonl`.

Evaluation writes it; promotion and the report read it. Of two scores artifacts over the same questions, the paired
differences are made here.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.shared.schemas import Name, Record, Task
from components.shared.statistics import Estimate, Ratio, bootstrap_difference, bootstrap_ratio

SCORES, ANSWERS, FLIPS = "scores.json", "answers.parquet", "flips.jsonl"
OVERALL = "overall"  # all held-out levels together, without the promotion split


class Answer(Record):
    """One text of the model: its accuracy (IoU for temporal grounding), and whether an answer could be read."""

    text: str
    reward: float
    parsed: bool


class Answered(Record):
    """All answers to one question. `greedy` is None where no greedy answer was asked for."""

    sample_id: Name
    video: Name
    level: str
    kind: str  # the sample's metadata "kind", else its task
    task: Task
    question: str
    answer: str  # the ground truth
    sampled: tuple[Answer, ...]
    greedy: Answer | None = None


_ANSWER = pa.struct([("text", pa.string()), ("reward", pa.float64()), ("parsed", pa.bool_())])
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("sample_id", "video", "level", "kind", "task", "question", "answer")]
    + [("sampled", pa.list_(_ANSWER)), ("greedy", _ANSWER)],
    metadata={"schema_version": "1"},
)


def answers_to_parquet(answers: Sequence[Answered]) -> bytes:
    """The answers as the bytes of a Parquet file, one row a question, in the given order."""
    buffer = io.BytesIO()
    rows = [answered.model_dump() for answered in answers]
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), buffer, compression="zstd")
    return buffer.getvalue()


def answers_from_parquet(data: bytes) -> list[Answered]:
    """The inverse of `answers_to_parquet`."""
    # Arrow's own threads can abort the interpreter at exit: read in this one
    rows = pq.read_table(io.BytesIO(data), use_threads=False, pre_buffer=False).to_pylist()
    return [Answered.model_validate(row) for row in rows]


def read_answers(folder: Path) -> list[Answered]:
    """Every answer of a scores artifact."""
    return answers_from_parquet((folder / ANSWERS).read_bytes())


def read_figures(folder: Path) -> dict[str, object]:
    """The content of a scores artifact's scores.json."""
    return json.loads((folder / SCORES).read_text())


def metric_name(answers: Sequence[Answered]) -> str:
    """What the mean reward of these questions is: `accuracy`, `mIoU`, or for a mixture `accuracy_or_IoU`."""
    grounding = {answered.task == "temporal_grounding" for answered in answers}
    return {frozenset({True}): "mIoU", frozenset({False}): "accuracy"}.get(frozenset(grounding), "accuracy_or_IoU")


def _sampled(answers: Sequence[Answered]) -> Ratio:
    return Ratio.mean([np.mean([answer.reward for answer in answered.sampled]) for answered in answers])


def _sampled_parsed(answers: Sequence[Answered]) -> Ratio:
    return Ratio(
        [sum(answer.reward for answer in answered.sampled if answer.parsed) for answered in answers],
        [sum(answer.parsed for answer in answered.sampled) for answered in answers],
    )


def _parse_failure(answers: Sequence[Answered]) -> Ratio:
    return Ratio.mean([np.mean([not answer.parsed for answer in answered.sampled]) for answered in answers])


def _greedy_answers(answers: Sequence[Answered]) -> list[Answer]:
    return [answered.greedy for answered in answers if answered.greedy is not None]


def _greedy(answers: Sequence[Answered]) -> Ratio:
    return Ratio.mean([answer.reward for answer in _greedy_answers(answers)])


def _greedy_parsed(answers: Sequence[Answered]) -> Ratio:
    found = _greedy_answers(answers)
    return Ratio([answer.reward * answer.parsed for answer in found], [float(answer.parsed) for answer in found])


def _greedy_parse_failure(answers: Sequence[Answered]) -> Ratio:
    return Ratio.mean([not answer.parsed for answer in _greedy_answers(answers)])


# name -> figure; "parsed" is among the answers that could be read alone
FIGURES: dict[str, Callable[[Sequence[Answered]], Ratio]] = {
    "sampled": _sampled,
    "sampled_parsed": _sampled_parsed,
    "sampled_parse_failure": _parse_failure,
    "greedy": _greedy,
    "greedy_parsed": _greedy_parsed,
    "greedy_parse_failure": _greedy_parse_failure,
}


def figure_names(answers: Sequence[Answered]) -> list[str]:
    """The figures that these answers allow: the greedy ones only if every question has a greedy answer."""
    greedy = all(answered.greedy is not None for answered in answers)
    return [name for name in FIGURES if greedy or not name.startswith("greedy")]


def level_figure(
    name: str, answers: Sequence[Answered], *, confidence: float, resamples: int, rng: np.random.Generator
) -> Estimate:
    """A figure by name over `answers`, with its interval clustered by video."""
    videos = [answered.video for answered in answers]
    return bootstrap_ratio(FIGURES[name](answers), videos, confidence=confidence, resamples=resamples, rng=rng)


def level_difference(
    name: str,
    after: Sequence[Answered],
    before: Sequence[Answered],
    *,
    confidence: float,
    resamples: int,
    rng: np.random.Generator,
) -> Estimate:
    """A figure's paired difference `after - before` with its interval clustered by video. Rows must be paired."""
    videos = [answered.video for answered in after]
    return bootstrap_difference(
        FIGURES[name](after), FIGURES[name](before), videos, confidence=confidence, resamples=resamples, rng=rng
    )


def paired(sample_ids: Sequence[str], answers: Sequence[Answered]) -> list[Answered]:
    """`answers` in the order of `sample_ids`. Raises ValueError if they answer other questions than these."""
    found = {answered.sample_id: answered for answered in answers}
    missing = [sample_id for sample_id in sample_ids if sample_id not in found]
    if missing or len(found) != len(sample_ids):
        raise ValueError(
            f"scores over other questions ({len(found)} against {len(sample_ids)}, {len(missing)} without a partner, "
            f"such as {missing[:3]}): evaluate both policies on the same dataset with the same settings and seed"
        )
    return [found[sample_id] for sample_id in sample_ids]


def by_level(answers: Sequence[Answered]) -> dict[str, list[Answered]]:
    """The answers of each level, levels sorted by name."""
    levels: dict[str, list[Answered]] = {}
    for answered in sorted(answers, key=lambda answered: answered.level):
        levels.setdefault(answered.level, []).append(answered)
    return levels
