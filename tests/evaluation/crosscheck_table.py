"""The table of rules by which lmms-eval scores otherwise than the official protocols, for the benchmarks' README.

python tests/evaluation/crosscheck_table.py    writes it there; the tests check that it is what stands there
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "components/evaluation/benchmarks/README.md"
BEGIN, END = "<!-- rules: made by tests/evaluation/crosscheck_table.py -->\n", "<!-- end of rules -->\n"


def table() -> str:
    """Markdown: each rule once, with the benchmarks that it is of."""
    from components.evaluation.benchmarks.crosscheck.rules import RULES

    benchmarks: dict[tuple[str, str], list[str]] = {}
    for name, rules in RULES.items():
        for rule in rules:
            benchmarks.setdefault((rule.name, rule.why), []).append(name)
    lines = ["| benchmark | rule | what lmms-eval does |", "|---|---|---|"]
    lines += [f"| {', '.join(names)} | {rule} | {why} |" for (rule, why), names in benchmarks.items()]
    return "\n".join(lines) + "\n"


def readme_with(rules: str) -> str:
    """The README with this table between its two marks."""
    text = README.read_text()
    head, _, rest = text.partition(BEGIN)
    return head + BEGIN + rules + END + rest.partition(END)[2]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    README.write_text(readme_with(table()))
