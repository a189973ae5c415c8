"""The paper's tables, with one's own results as their last row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from components.evaluation.benchmarks.contracts import MAIN_FIGURE, BenchmarkError
from components.evaluation.benchmarks.rows import read_json
from components.evaluation.benchmarks.summary import HEADLINE
from components.shared.schemas import Record


class Column(Record):
    """Where a column's figure stands in a result."""

    benchmark: str
    grouping: str = ""
    group: str = ""
    figure: str = MAIN_FIGURE


class PaperTable(Record):
    """A table of the paper: figures in per cent by row, None where one is not known."""

    title: str
    columns: dict[str, Column]
    rows: dict[str, tuple[float | None, ...]]


def paper_tables() -> list[PaperTable]:
    """The paper's tables of benchmarks."""
    text = (resources.files("components.evaluation.benchmarks") / "paper.yaml").read_text()
    return [PaperTable.model_validate(table) for table in yaml.safe_load(text)["tables"]]


def read_result(path: Path) -> dict[str, Any]:
    """A result that `deepvideo score --output` wrote. Raises BenchmarkError, naming the file, if it is none."""
    result = read_json(path, dict)
    if result.get("schema_version") != 1 or "groupings" not in result:
        raise BenchmarkError(f"{path}: no result of `deepvideo score --output`")
    return result


def check_one_each(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises BenchmarkError, naming the files, if two of these results by file are of one benchmark."""
    first: dict[str, str] = {}
    for file, result in results.items():
        name = result["benchmark"]
        before = first.setdefault(name, file)
        if before != file:
            raise BenchmarkError(
                f"{before} (protocol {results[before]['protocol']}) and {file} (protocol {result['protocol']}): both are "
                f"results of {name}, and a table has one row of yours; give one of them"
            )


def is_complete(result: Mapping[str, Any]) -> bool:
    """Whether a result is of as many items as the official set has: others do not stand beside the paper's figures."""
    return result["counts"]["expected"] == result["official_size"]


def own_row(table: PaperTable, results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any] | None]:
    """Of each column the figure (value, low, high, complete) in these results, one a benchmark; None where none has it."""
    by_name = {result["benchmark"]: result for result in results}
    return [_cell(column, by_name.get(column.benchmark)) for column in table.columns.values()]


def _cell(column: Column, result: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if result is None:
        return None
    if column.grouping:
        found = result["groupings"][column.grouping]["groups"].get(column.group)
        if found is None:
            return None
        cell = found["figures"][column.figure]
    else:
        cell = result[HEADLINE] if column.figure == MAIN_FIGURE else result["overall"]["figures"][column.figure]
    return {**cell, "complete": is_complete(result)}
