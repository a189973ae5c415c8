"""Each protocol against the outcomes of the code that it reproduces, which was run on these cases outside the project.

`cases/<benchmark>.jsonl`: a row a case, with the response, the benchmark's own row, the documented defect it shows, if
any, and the outcome by protocol with repository, commit and function.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.evaluation.benchmarks import BENCHMARKS, Scored, find_benchmark
from components.evaluation.benchmarks.scoring import score_response
from components.shared.schemas import Sample
from tests.evaluation.differences import readme
from tests.evaluation.readme_tables import README

CASES = Path(__file__).with_name("cases")


def cases(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CASES / f"{name}.jsonl").read_text().splitlines()]


OUTCOMES = [(name, case, protocol) for name in BENCHMARKS for case in cases(name) for protocol in case["outcomes"]]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_there_are_fifteen_cases_a_benchmark_and_five_of_them_show_a_defect(name: str) -> None:
    rows = cases(name)
    assert len(rows) >= 15 and sum(bool(row["defect"]) for row in rows) >= 5
    assert len({row["id"] for row in rows}) == len(rows)
    assert all("official" in row["outcomes"] for row in rows)
    assert all(
        "@" in outcome["source"] and "#" in outcome["source"] for r in rows for outcome in r["outcomes"].values()
    )


@pytest.mark.parametrize(
    ("name", "case", "protocol"), OUTCOMES, ids=[f"{name}/{case['id']}/{protocol}" for name, case, protocol in OUTCOMES]
)
def test_a_protocol_gives_what_the_original_gave(name: str, case: dict[str, Any], protocol: str) -> None:
    benchmark = find_benchmark(name)
    outcome, scoring = case["outcomes"][protocol], benchmark.protocol(protocol)
    scored = score_response(scoring, benchmark.sample(case["doc"]), case["response"], case.get("judge_reply"))
    if outcome.get("draws"):  # the original draws an option: its mean over that many seeds, 4 standard errors of it
        assert scored.score == pytest.approx(outcome["score"], abs=4 * (0.25 / outcome["draws"]) ** 0.5)
    else:
        assert scored.score == (None if outcome["score"] is None else pytest.approx(outcome["score"], abs=1e-6))
    if "figures" in outcome:
        assert scored.figures == pytest.approx(outcome["figures"], abs=1e-6)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_strict_never_earns_from_a_response_that_it_could_not_read(name: str) -> None:
    benchmark = find_benchmark(name)
    for case in cases(name):
        scored = benchmark.protocol("strict").score(benchmark.sample(case["doc"]), case["response"])
        if scored.failure and name != "next_gqa":  # there it may be the interval alone that could not be read
            assert not scored.score
        assert isinstance(scored, Scored) and isinstance(benchmark.sample(case["doc"]), Sample)


def test_the_readmes_table_of_differences_is_what_the_cases_give() -> None:
    assert README.read_text() == readme(), "run: python -m tests.evaluation.differences"
