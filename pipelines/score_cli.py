"""`deepvideo score` and `deepvideo paper-table`: responses scored without model or videos, and set beside the paper's figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from components.evaluation.benchmarks import BENCHMARKS, Benchmark, BenchmarkError, Scoring, find_benchmark
from components.evaluation.benchmarks.contracts import JUDGE_REQUESTS
from components.shared.files import write_atomic
from components.shared.rewards.answers import Fallback
from pipelines.options import JudgeModel, JudgeRequests, JudgeUrl
from pipelines.outputs import check_output_file, check_store
from pipelines.run_folder import RunRefused

if TYPE_CHECKING:
    from components.evaluation.benchmarks.judge import Judge
    from components.evaluation.benchmarks.responses import Answers

app = typer.Typer()
console = Console()

_BENCHMARKS = ", ".join(BENCHMARKS)
_FALLBACKS: dict[str, Fallback] = {"whole_response": "whole_response", "option_text": "option_text"}


@app.command()
def score(
    benchmark: Annotated[str, typer.Option(help=f"One of {_BENCHMARKS}.")],
    file: Annotated[
        Path | None, typer.Option("--input", help="Responses: JSONL of {id, response}, or lmms-eval's log.")
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="strict; official; paper: where its figures come from; or one by its name.")
    ] = "strict",
    data: Annotated[
        Path | None, typer.Option(help="Your copy of the benchmark; else each line has its row in `doc`.")
    ] = None,
    compare: Annotated[Path | None, typer.Option(help="Another policy's responses, for paired differences.")] = None,
    output: Annotated[Path | None, typer.Option(help="JSON file for the result.")] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Aggregate although items lack a score.")
    ] = False,
    unwrap: Annotated[bool, typer.Option("--unwrap", help="Hand the protocol only what stands in <answer>.")] = False,
    fallback: Annotated[
        list[str] | None, typer.Option(help=f"What strict may read besides: {' or '.join(_FALLBACKS)}; repeatable.")
    ] = None,
    judge_url: JudgeUrl = "",
    judge_model: JudgeModel = "",
    judge_requests: JudgeRequests = JUDGE_REQUESTS,
    store: Annotated[
        str,
        typer.Option(help="Where the judge's replies are kept: a folder or s3://; default: `store` beside --input."),
    ] = "",
    seed: Annotated[int, typer.Option(help="Seed of the intervals' draws.")] = 0,
    check: Annotated[bool, typer.Option("--check", help="Only list what is missing of the copy in --data.")] = False,
) -> None:
    """Score a file of responses to a public benchmark under a named protocol. Neither model nor videos are needed."""
    try:
        if check:
            _check(benchmark, data)
            return
        if file is None:
            raise BenchmarkError("--input: name the file of responses")
        check_output_file(output, file, compare, data)
        names = tuple(_fallback(name) for name in fallback or ())
        judge = make_judge(judge_url, judge_model, judge_requests)
        result = score_file(benchmark, protocol, file, data, compare, names, unwrap, allow_missing, judge, seed, store)
    except BenchmarkError as error:
        raise RunRefused(str(error)) from error
    from pipelines.score_text import print_result

    print_result(find_benchmark(benchmark), result, console)
    if output is not None:
        write_atomic(output, json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


@app.command("paper-table")
def paper_table(
    results: Annotated[
        list[Path], typer.Argument(help="Results that `deepvideo score --output` wrote, one a benchmark.")
    ],
    name: Annotated[str, typer.Option(help="What to call your row.")] = "yours",
) -> None:
    """Print the paper's tables with your results as their last row."""
    from components.evaluation.benchmarks.paper import check_one_each, read_result
    from pipelines.score_text import print_paper_tables

    try:
        found = {str(path): read_result(path) for path in results}
        check_one_each(found)
        print_paper_tables(list(found.values()), name, console)
    except BenchmarkError as error:
        raise RunRefused(str(error)) from error


def score_file(
    benchmark: str,
    protocol: str,
    file: Path,
    data: Path | None = None,
    compare: Path | None = None,
    fallbacks: tuple[Fallback, ...] = (),
    unwrap: bool = False,
    allow_missing: bool = False,
    judge: Judge | None = None,
    seed: int = 0,
    store: str = "",
) -> dict[str, Any]:
    """The result of a file of responses as JSON; with `compare` also its paired differences from another file's.

    The judge's replies are kept in `store`, by default in `store` beside the file. Raises BenchmarkError for what cannot
    be scored, RunRefused where the store cannot be written to.
    """
    from components.evaluation.benchmarks.judging import judged
    from components.evaluation.benchmarks.responses import read_answers
    from components.shared.store import open_store

    found = find_benchmark(benchmark)
    scoring = found.protocol(protocol, fallbacks)
    address = store or str(file.absolute().parent / "store")
    if judge is not None:
        check_judge_is_asked(scoring)
        check_store(address)
    rivals = (compare.name, read_answers(found, compare, data)) if compare is not None else None
    answers = read_answers(found, file, data)
    if judge is not None:
        kept = open_store(address)
        answers = judged(found, scoring, answers, judge, kept, unwrap=unwrap, allow_missing=allow_missing)
        if rivals is not None:
            others = judged(found, scoring, rivals[1], judge, kept, unwrap=unwrap, allow_missing=allow_missing)
            rivals = (rivals[0], others)
    return score_answered(
        found,
        scoring,
        answers,
        file.name,
        rivals=rivals,
        unwrap=unwrap,
        allow_missing=allow_missing,
        judge=judge.model if judge else "",
        seed=seed,
    )


def score_answered(
    benchmark: Benchmark,
    scoring: Scoring,
    answers: Answers,
    name: str,
    *,
    rivals: tuple[str, Answers] | None = None,
    unwrap: bool = False,
    allow_missing: bool = False,
    judge: str = "",
    seed: int = 0,
    remedy: str = "complete the file",
) -> dict[str, Any]:
    """`score_file` of responses at hand, judged by the model `judge` if need be.

    `name` and the rivals' first part say where they come from, `remedy` what brings those that lack.
    """
    from components.evaluation.benchmarks.scoring import score_answers
    from components.evaluation.benchmarks.summary import compare, summarise

    items = score_answers(scoring, answers, unwrap=unwrap)
    result = summarise(benchmark, scoring, items, name, allow_missing=allow_missing, seed=seed, remedy=remedy)
    result |= {
        "input": name,
        "unwrap": unwrap,
        "judge": judge,
    }
    if rivals is not None:
        title, others = rivals
        if [sample.id for sample in others.samples] != [sample.id for sample in answers.samples]:
            raise BenchmarkError(f"--compare {title}: holds other items than {name}, or in another order; use --data")
        theirs = score_answers(scoring, others, unwrap=unwrap)
        summarise(benchmark, scoring, theirs, f"--compare {title}", allow_missing=allow_missing, seed=seed)  # refuses
        result["comparison"] = {"with": title} | compare(benchmark, items, theirs, seed)
    result["items"] = [
        {"id": item.sample.id, "problem": item.problem} | (item.scored.model_dump(mode="json") if item.scored else {})
        for item in items
    ]
    return result


def make_judge(url: str, model: str, requests: int) -> Judge | None:
    """The judge that the options name, None if they name none. Raises BenchmarkError for what cannot be one."""
    from components.evaluation.benchmarks.judge import Judge

    if not url and model:
        raise BenchmarkError(f"--judge-model {model}: give its address, too, with --judge-url")
    return Judge(url, model, requests) if url else None


def check_judge_is_asked(*scorings: Scoring) -> None:
    """Raises BenchmarkError if none of these protocols has a use for a judge."""
    if all(scoring.judge is None for scoring in scorings):
        names = ", ".join(dict.fromkeys(scoring.name for scoring in scorings))
        raise BenchmarkError(
            f"--judge-url: protocol {names} asks no judge here; leave it out, or name another protocol"
        )


def _fallback(name: str) -> Fallback:
    if name not in _FALLBACKS:
        known = ", ".join(_FALLBACKS)
        several = "; give the option once for each" if "," in name else ""
        raise BenchmarkError(f"--fallback {name}: there is none of that name; there are {known}{several}")
    return _FALLBACKS[name]


def _check(benchmark: str, data: Path | None) -> None:
    from components.evaluation.benchmarks.responses import missing_media

    if data is None:
        raise BenchmarkError("--check: name the folder of your copy with --data")
    found = find_benchmark(benchmark)
    annotations, media, rows = missing_media(found, data)
    for path in [*annotations, *media]:
        console.print(path, markup=False, highlight=False, soft_wrap=True)
    if annotations:
        raise BenchmarkError(f"{data}: {len(annotations)} annotation files of {found.title} are missing, listed above")
    size = "" if rows == found.size else f" (the official set has {found.size})"
    if media:
        raise BenchmarkError(f"{data}: {rows} items{size}; {len(media)} videos or images are missing, listed above")
    console.print(f"{data}: {rows} items{size}, every video and image is there")
