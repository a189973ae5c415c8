"""The table of rules by which lmms-eval scores otherwise than the official protocols, for the benchmarks' README.

python -m tests.evaluation.crosscheck_table    writes it there; the tests check that it is what stands there
"""

from __future__ import annotations

from tests.evaluation.readme_tables import README, readme_with

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


def readme() -> str:
    """The README with the table as it should be."""
    return readme_with(table(), BEGIN, END)


if __name__ == "__main__":
    README.write_text(readme())
