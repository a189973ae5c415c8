"""`deepvideo evaluate`: a policy asked the questions of public benchmarks, scored, and set beside the paper's figures."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from components.evaluation.benchmarks import BENCHMARKS, BenchmarkError
from components.evaluation.benchmarks.contracts import JUDGE_REQUESTS
from pipelines.options import Assignments, JudgeModel, JudgeRequests, JudgeUrl, SettingsFile
from pipelines.outputs import check_output_folder, check_store
from pipelines.overrides import parse_assignments, read_overrides
from pipelines.run_folder import RunFolder, RunRefused
from pipelines.score_cli import check_judge_is_asked, make_judge
from pipelines.settings import SettingsError

if TYPE_CHECKING:
    from pipelines.benchmarking.asking import Job, Outcome

app = typer.Typer()
console = Console()
PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
_SHOWN = 5  # unusable videos that are named on the terminal


@app.command()
def evaluate(
    policy: Annotated[
        str,
        typer.Option(
            help="A model's folder, a run's folder, `tiny`, a policy's reference (.json), models:/NAME@ALIAS."
        ),
    ],
    benchmark: Annotated[
        list[str],
        typer.Option(metavar="NAME=FOLDER", help=f"Your copy of a benchmark; repeatable. {', '.join(BENCHMARKS)}."),
    ],
    protocol: Annotated[
        str, typer.Option(help="strict; official; paper: where its figures come from; or one by its name.")
    ] = "strict",
    output: Annotated[Path, typer.Option(help="Folder of the results; the same one continues.")] = Path(
        "runs/evaluation"
    ),
    store: Annotated[
        str, typer.Option(help="Where answers and frames are kept: a folder or s3://; default: in the output folder.")
    ] = "",
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Aggregate although items lack a score; both denominators are told.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="So many items of each benchmark, drawn by the seed.")
    ] = None,
    shard: Annotated[
        str, typer.Option(metavar="K/N", help="Answer the K-th of N parts alone; machines share --store.")
    ] = "",
    max_frames: Annotated[int | None, typer.Option(min=2, help="Frames at most, other than the protocol's.")] = None,
    max_pixels: Annotated[
        int | None, typer.Option(min=784, help="Pixels of a frame at most, other than the protocol's.")
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of an answer at most, other than the protocol's.")
    ] = None,
    judge_url: JudgeUrl = "",
    judge_model: JudgeModel = "",
    judge_requests: JudgeRequests = JUDGE_REQUESTS,
    name: Annotated[str, typer.Option(help="What to call your row in the paper's tables.")] = "yours",
    tracking_uri: Annotated[
        str, typer.Option(envvar="DEEPVIDEO_TRACKING_URI", help="MLflow's address, for models:/NAME@ALIAS.")
    ] = "",
    settings_file: SettingsFile = None,
    assignments: Assignments = None,
) -> None:
    """Ask a policy the questions of public benchmarks and score its answers. The same command continues where it stopped."""
    from components.evaluation.benchmarks.engine import BenchmarkEngine
    from components.shared.store import open_store
    from pipelines.benchmarking.asking import Desk
    from pipelines.benchmarking.evaluate import Changes, ask, evaluation_settings, needs_images, prepare, score
    from pipelines.benchmarking.identity import claim_folder, without_effect
    from pipelines.benchmarking.policy import resolve_policy
    from pipelines.score_text import print_paper_tables, print_result

    changes, part = Changes(max_frames, max_pixels, max_new_tokens), _part(shard)
    try:
        judge = make_judge(judge_url, judge_model, judge_requests)
    except BenchmarkError as error:
        raise RunRefused(str(error)) from error
    found = resolve_policy(policy, tracking_uri)
    layers = (read_overrides(settings_file) if settings_file else {}, parse_assignments(assignments or []))
    settings = evaluation_settings(found, *layers, origins=(f"{settings_file}: ", "--set "))
    if useless := without_effect(layers[1]):
        raise SettingsError(f"--set {', '.join(useless)}: of no effect on benchmarks; leave it out")
    seed = settings.pipeline.seed
    try:
        jobs = [
            prepare(each, root, protocol, changes, allow_missing=allow_missing, limit=limit, seed=seed)
            for each, root in _copies(benchmark)
        ]
        if judge is not None:
            check_judge_is_asked(*(job.scoring for job in jobs))
    except BenchmarkError as error:
        raise RunRefused(str(error)) from error
    check_output_folder(output)
    answers = store or str(output / "store")
    check_store(answers)
    results, refused = [], []
    with RunFolder(output).locked():
        claim_folder(output, jobs, found, settings, changes, limit, judge, answers)
        engine = BenchmarkEngine(settings.generation, images=needs_images(jobs))
        desk = Desk(found, engine, open_store(answers), settings, output, part)
        if useless := without_effect(layers[0]):
            console.print(f"{settings_file}: of no effect on benchmarks: {', '.join(useless)}", **PLAIN)
        console.print(f"Evaluating {found.words} ({found.digest[:12]}), results in {output}", **PLAIN)
        try:
            for job in jobs:
                outcome = ask(job, desk)
                _tell(job, outcome)
                if part != (0, 1):
                    continue
                try:
                    result = score(job, outcome, desk, changes, allow_missing=allow_missing, judge=judge)
                except BenchmarkError as error:
                    refused.append(str(error))
                    continue
                print_result(job.benchmark, result, console)
                results.append(result)
        finally:
            engine.close()
    if results:
        print_paper_tables(results, name, console)
    for message in refused:
        console.print(message, style="red", **PLAIN)
    if refused:
        sys.exit(1)


def _tell(job: Job, outcome: Outcome) -> None:
    answered, total = len(outcome.answers), len(job.samples)
    console.print(
        f"\n{job.benchmark.title}: {answered} of {total} questions answered, {outcome.asked} of them asked now", **PLAIN
    )
    bad = list(outcome.quarantined.values())
    for item in bad[:_SHOWN]:
        console.print(f"  not usable: {item.item}: {item.reason} ({item.detail}), {item.samples} questions", **PLAIN)
    if len(bad) > _SHOWN:
        console.print(f"  and {len(bad) - _SHOWN} more, in {job.name}.quarantine.jsonl", **PLAIN)
    unasked = [text for text in outcome.problems.values() if "do not fit" in text]
    if unasked:
        console.print(f"  {len(unasked)} questions are too long, such as: {unasked[0]}", **PLAIN)


def _copies(given: Sequence[str]) -> list[tuple[str, Path]]:
    copies: dict[str, Path] = {}
    for item in given:
        name, _, folder = item.partition("=")
        if not name or not folder:
            raise SettingsError(f"--benchmark {item}: expected NAME=FOLDER")
        if name in copies:
            raise SettingsError(f"--benchmark {item}: {name} is given twice")
        if not Path(folder).is_dir():
            raise SettingsError(f"--benchmark {item}: there is no such folder")
        copies[name] = Path(folder)
    return list(copies.items())


def _part(shard: str) -> tuple[int, int]:
    """`K/N` as (K - 1, N); (0, 1) for none."""
    if not shard:
        return 0, 1
    found = re.fullmatch(r"(\d+)/(\d+)", shard)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise SettingsError(f"--shard {shard}: expected K/N with K from 1 to N, such as 2/4")
    return int(found[1]) - 1, int(found[2])
