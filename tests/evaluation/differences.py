"""The table of cases on which `official` and `strict` differ, for the benchmarks' README.

python -m tests.evaluation.differences    writes it there; the tests check that it is what stands there
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.evaluation.readme_tables import README, readme_with

BEGIN, END = "<!-- differences: made by tests/evaluation/differences.py -->\n", "<!-- end of differences -->\n"
CASES = Path(__file__).with_name("cases")


def table() -> str:
    """Markdown: each case whose official outcome is not the strict score, both, and strict's with its fall-back."""
    from components.evaluation.benchmarks import BENCHMARKS

    lines = ["| benchmark | case | response | official | strict | strict, `whole_response` | what the original does |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, benchmark in BENCHMARKS.items():
        strict, loose = benchmark.protocol("strict"), benchmark.protocol("strict", ("whole_response",))
        for text in (CASES / f"{name}.jsonl").read_text().splitlines():
            case = json.loads(text)
            sample, official = benchmark.sample(case["doc"]), case["outcomes"]["official"]
            ours = [protocol.score(sample, case["response"]) for protocol in (strict, loose)]
            figures = [_figures(official["score"], official.get("figures"))]
            figures += [_figures(one.score, one.figures if "figures" in official else None) for one in ours]
            if figures[0] != figures[1]:
                cells = [
                    name,
                    case["id"],
                    _response(case["response"]),
                    *figures,
                    case["defect"] or _no_block(ours[0].failure),
                ]
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _figures(score: float | None, figures: dict[str, Any] | None) -> str:
    """The score; for grounding also IoU and IoP, where they are in the denominator."""
    shown = "left out" if score is None else f"{score:.2f}".rstrip("0").rstrip(".")
    if figures is not None:
        shown += ", no span" if not figures else f", IoU {figures['iou']:.2f}, IoP {figures['iop']:.2f}"
    return shown


def _no_block(failure: str) -> str:
    return "reads a direct answer; strict's prompt asks for `<answer>`" if failure == "no <answer> block" else ""


def _response(text: str) -> str:
    shown = text.replace("\n", "⏎").replace("|", "\\|").replace("<think>Let me see.</think>⏎", "")
    return f"`{shown}`" if shown.strip() else "(empty)" if not shown else "(blank)"


def readme() -> str:
    """The README with the table as it should be."""
    return readme_with(table(), BEGIN, END)


if __name__ == "__main__":
    README.write_text(readme())
