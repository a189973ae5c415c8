"""A benchmark's result in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.evaluation.benchmarks import Benchmark, find_benchmark
from components.evaluation.benchmarks.paper import PaperTable, is_complete, own_row, paper_tables

_LOW, _HIGH = "95 % interval from", "to"
_PART = "*"  # marks figures of less, or other, than the official set
_GROUP_FIGURES = 2  # more do not fit beside one another


def print_result(benchmark: Benchmark, result: Mapping[str, Any], console: Console) -> None:
    """The headline, what it was made under, a table of all figures by group, and the paired differences if there are any."""
    counts, headline = result["counts"], result["headline"]
    over = "items" if headline["mean_over"] == ["items"] else "groups (" + " / ".join(headline["mean_over"]) + ")"
    made = [f"protocol {result['protocol']} {result['protocol_version']}", *result["fallbacks"]]
    made += ["unwrapped"] if result["unwrap"] else []
    made += [f"{name} changed to {value}" for name, value in result.get("changed", {}).items()]
    console.print(f"[bold]{escape(benchmark.title)}[/bold]  {', '.join(made)}", highlight=False)
    console.print(f"accuracy {_interval(headline)}, mean over {over}", highlight=False, markup=False)
    if not is_complete(result):
        console.print(
            f"[yellow]Not the official set: {_share_of_set(result)}.[/yellow] What is missing of it is not counted; the "
            "figures do not stand beside published ones.",
            highlight=False,
        )
    console.print(_counted(counts), highlight=False)
    if cut_off := result.get("cut_off"):
        console.print(
            f"{cut_off} answers were cut off at max_new_tokens = {result['decoding']['max_new_tokens']}",
            highlight=False,
        )
    console.print(_figures(benchmark, result))
    for reason, where in _without_interval(result).items():
        console.print(f"no interval for {', '.join(where)}: {reason}", highlight=False, markup=False)
    if len(benchmark.figures) > _GROUP_FIGURES:
        console.print(_all_figures(result))
    if "comparison" in result:
        console.print(_comparison(result["comparison"]))


def _counted(counts: Mapping[str, int]) -> str:
    names = {
        "missing": "missing",
        "errors": "errors",
        "needs_judge": "without the judge they need",
        "judge_failures": "judge failures",
        "parse_failures": "parse failures",
        "left_out_by_protocol": "left out by the protocol's rules",
    }
    parts = [f"{counts[name]} {words}" for name, words in names.items() if counts[name]]
    return f"{counts['scored']} of {counts['expected']} items scored" + "".join(f", {part}" for part in parts)


def _figures(benchmark: Benchmark, result: Mapping[str, Any]) -> Table:
    """Group by group, the first two figures; `_all_figures` has the others."""
    incomplete, names = result["counts"]["unscored"] > 0, benchmark.figures[:_GROUP_FIGURES]
    table = Table(pad_edge=False)
    columns = ["", "items", *(f"{name} [{result['confidence']:.0%}]" for name in names)]
    columns += ["over all expected"] if incomplete else []
    for name in [*columns, "parse failures", "missing"]:
        table.add_column(escape(name), overflow="fold")
    table.add_row(*_cells("all", result["overall"], names, incomplete), end_section=True)
    for grouping, found in result["groupings"].items():
        for group, row in found["groups"].items():
            table.add_row(*_cells(group, row, names, incomplete))
        if found["groups"]:
            macros = [found["macro"][name] for name in names]
            means = [escape(_interval(macro)) for macro in macros]
            means += [_percent(macros[0]["over_expected"])] if incomplete else []
            table.add_row(f"[bold]mean over {escape(grouping)}[/bold]", "", *means, end_section=True)
    return table


def _share_of_set(result: Mapping[str, Any]) -> str:
    return f"{result['counts']['expected']} items, where it has {result['official_size']}"


def _without_interval(result: Mapping[str, Any]) -> dict[str, list[str]]:
    """Why -> where the table shows no interval although there is a figure, of the main figure."""
    main = result["headline"]["figure"]
    found = {"the headline": result["headline"], "all": result["overall"]["figures"][main]}
    for grouping, each in result["groupings"].items():
        found |= {group: row["figures"][main] for group, row in each["groups"].items()}
        found[f"mean over {grouping}"] = each["macro"][main]
    reasons: dict[str, list[str]] = {}
    for where, figure in found.items():
        if figure["no_interval"]:
            reasons.setdefault(figure["no_interval"], []).append(where)
    return reasons


def _cells(group: str, row: Mapping[str, Any], names: Sequence[str], incomplete: bool) -> list[str]:
    counts, figures = row["counts"], [row["figures"][name] for name in names]
    items = str(counts["scored"]) if not incomplete else f"{counts['scored']} / {counts['expected']}"
    cells = [escape(group), items, *(escape(_interval(figure)) for figure in figures)]
    cells += [_percent(figures[0]["over_expected"])] if incomplete else []
    return [*cells, str(counts["parse_failures"]), str(counts["unscored"])]


def _all_figures(result: Mapping[str, Any]) -> Table:
    table = Table(pad_edge=False)
    for name in ("figure", "value", "items"):
        table.add_column(name)
    for name, figure in result["overall"]["figures"].items():
        if figure["items"]:
            table.add_row(name, escape(_interval(figure)), str(figure["items"]))
    return table


def _comparison(comparison: Mapping[str, Any]) -> Table:
    table = Table(title=escape(f"Against {comparison['with']}, {comparison['items']} items in pairs"), pad_edge=False)
    for name in ("", "difference", "p"):
        table.add_column(name)
    for name, figure in comparison["figures"].items():
        table.add_row(name, escape(_interval(figure, signed=True)), _chance(figure["p_value"]))
    return table


def print_paper_tables(results: Sequence[Mapping[str, Any]], name: str, console: Console) -> None:
    """The paper's tables that these results have something for, in per cent, with them as the last row; and their protocols."""
    for shown in paper_tables():
        own = own_row(shown, results)
        if not any(own):
            continue
        for columns in _fitting(shown, name, console.width):
            console.print(_paper_table(shown, columns, own, name))
    for result in results:
        counts, benchmark = result["counts"], find_benchmark(result["benchmark"])
        if not is_complete(result):
            console.print(
                f"[yellow]{_PART} {benchmark.name}: not the official set: {_share_of_set(result)}; its figure does not stand "
                "beside the paper's[/yellow]",
                highlight=False,
            )
        made = f"protocol {result['protocol']} {result['protocol_version']}"
        if result["protocol"] != benchmark.paper:
            made += f" (the paper's: {benchmark.paper})"
        console.print(
            f"{benchmark.name}: {made}, official size {result['official_size']}: {_counted(counts)}", highlight=False
        )


def _fitting(shown: PaperTable, name: str, width: int) -> list[list[int]]:
    """The columns' indices in as many parts as a terminal of `width` characters needs, each part a table with all rows."""
    room = width - max(map(len, [*shown.rows, name, _LOW])) - 3
    parts: list[list[int]] = [[]]
    left = room
    for index, title in enumerate(shown.columns):
        needs = max(len(title), len("100.0" + _PART)) + 3
        if needs > left and parts[-1]:
            parts.append([])
            left = room
        parts[-1].append(index)
        left -= needs
    return parts


def _paper_table(
    shown: PaperTable, columns: Sequence[int], own: Sequence[Mapping[str, Any] | None], name: str
) -> Table:
    table, titles = Table(title=shown.title, pad_edge=False), list(shown.columns)
    for title in ("", *(titles[index] for index in columns)):
        table.add_column(escape(title), no_wrap=True)
    for row, figures in shown.rows.items():
        cells = (figures[index] for index in columns)
        table.add_row(escape(row), *("-" if figure is None else f"{figure:.1f}" for figure in cells))
    table.add_section()
    mine = [own[index] for index in columns]
    for title, part in ((f"[bold]{escape(name)}[/bold]", "value"), (_LOW, "low"), (_HIGH, "high")):
        table.add_row(title, *(_own(cell, part) for cell in mine))
    return table


def _own(cell: Mapping[str, Any] | None, part: str) -> str:
    if cell is None or cell[part] is None:
        return "-"
    return _percent(cell[part]) + ("" if cell["complete"] else _PART)


def _interval(figure: Mapping[str, Any], signed: bool = False) -> str:
    if figure["value"] is None:
        return "-"
    sign = "+" if signed else ""
    value = f"{100 * figure['value']:{sign}.1f}"
    return (
        value
        if figure["low"] is None
        else f"{value} [{100 * figure['low']:{sign}.1f}, {100 * figure['high']:{sign}.1f}]"
    )


def _chance(p_value: float | None) -> str:
    if p_value is None:
        return "-"
    return "< 0.0001" if p_value < 1e-4 else f"{p_value:.4f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
