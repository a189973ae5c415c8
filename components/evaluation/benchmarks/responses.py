"""Response files: JSONL of our own, and lmms-eval's sample logs. Matched with the items that should have been answered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.evaluation.benchmarks.contracts import Benchmark, BenchmarkError
from components.evaluation.benchmarks.rows import find_medium, read_text
from components.shared.schemas import Record, Sample

_UNUSABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError)  # of a row that is not as its publishers' are


class Response(Record):
    """A model's text for one item; None where it failed, and then `error` may say why."""

    id: str
    text: str | None
    error: str = ""
    judge_reply: str | None = None  # a judge's word that was written down before
    judge_model: str = ""  # whose word it is, and then it was given on the whole text; empty: it counts as it stands


@dataclass(frozen=True)
class Answers:
    """The items that should be answered, in their order, and what was answered, by item id."""

    samples: tuple[Sample, ...]
    responses: dict[str, Response]


def read_answers(benchmark: Benchmark, file: Path, copy: Path | None) -> Answers:
    """The responses of a file, matched with the items of the user's copy, or else with the rows in the file itself.

    A line is `{"id", "response"}`, with the benchmark's own row in `doc` where no copy is at hand; `error` or a
    `response` of null mark a failure. Lines of lmms-eval's `*_samples_*.jsonl` carry `doc` and `filtered_resps`. Raises
    BenchmarkError, naming file and line, for what is neither, for an id twice, and for an id that the copy lacks.
    """
    responses: dict[str, Response] = {}
    held: list[Sample] = []
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        response, sample = _line(benchmark, file, number, line, copy is None)
        if response.id in responses:
            raise BenchmarkError(f"{file}:{number}: item {response.id} is answered twice; keep one of its lines")
        responses[response.id] = response
        held += [sample] if sample else []
    if copy is None:
        return Answers(tuple(held), responses)
    samples = read_copy(benchmark, copy)
    if unknown := [name for name in responses if name not in {sample.id for sample in samples}]:
        raise BenchmarkError(
            f"{file}: {len(unknown)} ids are none of {benchmark.name} in {copy}, such as {unknown[:3]}; its ids look like "
            f"{[sample.id for sample in samples[:3]]}"
        )
    return Answers(samples, responses)


def _line(benchmark: Benchmark, file: Path, number: int, line: str, needs_row: bool) -> tuple[Response, Sample | None]:
    where = f"{file}:{number}"
    try:
        row: dict[str, Any] = json.loads(line)
    except ValueError as error:
        raise BenchmarkError(f"{where}: not valid JSON ({error})") from None
    if not isinstance(row, dict):
        raise BenchmarkError(f"{where}: expected an object with id and response")
    logged = "doc_id" in row
    sample = _sample(benchmark, file, where, row) if "doc" in row else None
    if sample is None and (needs_row or "id" not in row):
        lacking = "no doc (the benchmark's own row)" if "id" in row else "neither id nor doc"
        raise BenchmarkError(f"{where}: {lacking}; name the folder of your copy with --data, or put the row into `doc`")
    reply = row.get("judge_reply")
    if not (reply is None or isinstance(reply, str)):
        raise BenchmarkError(f"{where}: field judge_reply must be a text, the judge's word, or null")
    text = _logged_text(row, where) if logged else row.get("response")
    if not (text is None or isinstance(text, str)) or not (logged or "response" in row or row.get("error")):
        raise BenchmarkError(f"{where}: field response must be a text, or null for a failure")
    if row.get("error"):
        text = None
    name = sample.id if sample else str(row["id"])
    problem = str(row.get("error") or ("" if text is not None else "no text"))
    judge = str(row.get("judge_model") or "")
    return Response(id=name, text=text, error=problem, judge_reply=reply, judge_model=judge), sample


def _sample(benchmark: Benchmark, file: Path, where: str, row: dict[str, Any]) -> Sample:
    defaults = benchmark.log_task(file.stem) | {"index": row.get("doc_id", row.get("index", row.get("id")))}
    try:
        return benchmark.sample({**{k: v for k, v in defaults.items() if v is not None}, **row["doc"]})
    except BenchmarkError as error:
        raise BenchmarkError(f"{where}: {error}") from None
    except _UNUSABLE as error:
        raise BenchmarkError(f"{where}: doc is no row of {benchmark.name}: {type(error).__name__}: {error}") from None


def _logged_text(row: dict[str, Any], where: str) -> str | None:
    """lmms-eval: a list with the text, or a list of such lists. The raw text is preferred: its filters strip reasoning."""
    found: Any = row.get("resps") or row.get("filtered_resps")
    while isinstance(found, Sequence) and not isinstance(found, str):
        if len(found) != 1:
            raise BenchmarkError(f"{where}: {len(found)} responses in one line; score one repetition at a time")
        found = found[0]
    return found


def read_copy(benchmark: Benchmark, copy: Path) -> tuple[Sample, ...]:
    """Every item of a copy. Raises BenchmarkError, naming the row, if one cannot be used."""
    samples = []
    try:
        for row in benchmark.rows(copy):
            samples.append(benchmark.sample(row))
    except BenchmarkError:
        raise
    except _UNUSABLE as error:
        raise BenchmarkError(
            f"{copy}: row {len(samples) + 1} of {benchmark.name} is not as its publishers have it: "
            f"{type(error).__name__}: {error}; fetch its annotations again"
        ) from None
    return tuple(samples)


def missing_media(benchmark: Benchmark, copy: Path) -> tuple[list[str], list[str], int]:
    """What a copy lacks: annotation files (as the names each may have), videos and images; and its number of rows.

    Where annotation files are missing their videos cannot be told: that list is empty then.
    """
    if lacking := benchmark.lacking(copy):
        return lacking, [], 0
    samples = read_copy(benchmark, copy)
    media = dict.fromkeys(path for sample in samples for path in (sample.video, sample.image) if path)
    return [], [path for path in media if find_medium(copy, path) is None], len(samples)
