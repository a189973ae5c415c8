"""`deepvideo crosscheck`: lmms-eval's scorers on the same responses, and where they differ from the official ones, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from components.evaluation.benchmarks import BenchmarkError, find_benchmark
from components.evaluation.benchmarks.crosscheck.rules import RULES
from components.shared.files import write_atomic
from pipelines.outputs import check_output_file
from pipelines.run_folder import RunRefused

app = typer.Typer()
console = Console()
PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
_SHOWN = 20  # responses that no rule explains, on the terminal


@app.command()
def crosscheck(
    benchmark: Annotated[str, typer.Option(help=f"One of {', '.join(RULES)}.")],
    file: Annotated[Path, typer.Option("--input", help="Responses, as `deepvideo score` takes them.")],
    data: Annotated[
        Path | None, typer.Option(help="Your copy of the benchmark; else each line has its row in `doc`.")
    ] = None,
    environment: Annotated[
        Path | None,
        typer.Option(help="Folder of lmms-eval's environment, made where there is none; default: in the user's cache."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="JSON file for both scores of every response.")] = None,
) -> None:
    """Score responses with lmms-eval too, and say where it differs from the official protocol, and why.

    Exit code 1: lmms-eval gave a score that none of the documented rules foretold.
    """
    from components.evaluation.benchmarks.crosscheck.comparing import crosscheck as compare
    from components.evaluation.benchmarks.crosscheck.environment import default_environment, prepare_environment
    from components.evaluation.benchmarks.responses import read_answers

    check_output_file(output, file)
    try:
        found = find_benchmark(benchmark)
        if benchmark not in RULES:
            raise BenchmarkError(f"--benchmark {benchmark}: lmms-eval has none of it; it has {', '.join(RULES)}")
        answers = read_answers(found, file, data)
        with console.status("preparing lmms-eval's environment"):
            python = prepare_environment((environment or default_environment()).absolute())
        with console.status("scoring with lmms-eval"):
            result = compare(found, answers, python)
    except BenchmarkError as error:
        raise RunRefused(str(error)) from error
    print_crosscheck(found.title, result, console)
    if output is not None:
        write_atomic(output, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    if result["unforetold"]:
        raise typer.Exit(1)


def print_crosscheck(title: str, result: Mapping[str, Any], console: Console) -> None:
    """Counts, lmms-eval's own figures, a row for each rule that explains differences, and what no rule explains."""
    items: Sequence[Mapping[str, Any]] = result["items"]
    differ = [item for item in items if item["differs"]]
    console.print(
        f"[bold]{escape(title)}[/bold]  protocol {result['protocol']} and lmms-eval {result['lmms_eval']}",
        highlight=False,
    )
    console.print(
        f"{len(items)} responses: {len(items) - len(differ)} scored alike, {len(differ)} not, of which "
        f"{sum(item['explained'] for item in differ)} as a rule foretold",
        highlight=False,
    )
    if result["not_compared"]:
        console.print(f"{result['not_compared']} more have no official score: missing, failed, or waiting for a judge")
    scored = [item["official"] for item in items if item["official"] is not None]
    own = f"{sum(scored) / len(scored):.4f} over {len(scored)}" if scored else "none"
    theirs = ", ".join(f"{task} {figure}" for task, figure in result["figures"].items())
    console.print(
        f"official mean {own}; by lmms-eval's own aggregation, in its units: {theirs}", markup=False, highlight=False
    )
    for rule in RULES[result["benchmark"]]:
        if found := [item for item in differ if item["explained"] and item["rule"] == rule.name]:
            higher = sum((item["lmms_eval"] or 0) > (item["official"] or 0) for item in found)
            console.print(
                f"\n[bold]{rule.name}[/bold]: {len(found)} responses, {higher} of them scored higher", highlight=False
            )
            console.print(f"  {rule.why}", **PLAIN)
            console.print(f"  for example {_case(min(found, key=lambda item: len(item['response'])))}", **PLAIN)
    if strange := [item for item in items if not item["explained"]]:
        console.print(f"\n[red]{len(strange)} that no rule foretold[/red]", highlight=False)
        for item in strange[:_SHOWN]:
            foretold = " or ".join(_score(score) for score in item["foretold"])
            by = f"rule {item['rule']}" if item["rule"] else "no rule, so as official"
            console.print(
                f"  {item['id']}: foretold {foretold} ({by}); {_case(item)}, read as {item['read'][:40]!r}", **PLAIN
            )
        if len(strange) > _SHOWN:
            console.print(f"  and {len(strange) - _SHOWN} more: --output writes all of them", **PLAIN)


def _case(item: Mapping[str, Any]) -> str:
    theirs = item["error"] or _score(item["lmms_eval"])
    return f"{item['response'][:80]!r}: official {_score(item['official'])}, lmms-eval {theirs}"


def _score(score: float | None) -> str:
    return "left out" if score is None else f"{score:.3g}"
