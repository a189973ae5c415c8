"""Tables of the benchmarks' README that are made from the code, each between two marks of its own."""

from __future__ import annotations

from pathlib import Path

README = Path(__file__).parents[2] / "components/evaluation/benchmarks/README.md"


def readme_with(table: str, begin: str, end: str) -> str:
    """The README with this table between its marks."""
    head, _, rest = README.read_text().partition(begin)
    return head + begin + table + end + rest.partition(end)[2]
