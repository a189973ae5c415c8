"""`deepvideo crosscheck` with the real lmms-eval, installed as the command installs it, on generated responses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from components.evaluation.benchmarks import BenchmarkError, find_benchmark
from components.evaluation.benchmarks.crosscheck import rules
from components.evaluation.benchmarks.crosscheck.contracts import Answered
from components.evaluation.benchmarks.crosscheck.environment import VERSION, prepare_environment
from components.evaluation.benchmarks.scoring import score_response
from pipelines.crosscheck_cli import app
from pipelines.run_folder import RunRefused
from tests.evaluation.crosscheck_table import readme
from tests.evaluation.generated_responses import generate
from tests.evaluation.readme_tables import README


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lmms") / "environment"
    prepare_environment(folder)
    return folder


Check = Callable[..., tuple[int, str, dict[str, Any]]]


@pytest.fixture
def check(environment: Path, tmp_path: Path) -> Check:
    """Runs the command on some lines; returns its exit code, its words and its JSON."""

    def run(benchmark: str, lines: list[dict[str, Any]]) -> tuple[int, str, dict[str, Any]]:
        file, output = tmp_path / "responses.jsonl", tmp_path / "crosscheck.json"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        arguments = ["--benchmark", benchmark, "--input", str(file), "--environment", str(environment)]
        done = CliRunner().invoke(app, [*arguments, "--output", str(output)], env={"COLUMNS": "200"})
        if isinstance(done.exception, RunRefused):
            raise done.exception
        return done.exit_code, done.output, json.loads(output.read_text())

    return run


@pytest.mark.parametrize("name", rules.RULES)
def test_every_difference_on_200_generated_responses_is_foretold(name: str, check: Check) -> None:
    code, words, result = check(name, generate(name))
    assert [item for item in result["items"] if not item["explained"]] == [] and code == 0
    assert len(result["items"]) == 200 and result["not_compared"] == 0 and result["lmms_eval"] == VERSION
    differ = [item for item in result["items"] if item["differs"]]
    assert all(item["rule"] for item in differ) and 5 <= len(differ) <= 150
    assert f"200 responses: {200 - len(differ)} scored alike, {len(differ)} not, of which {len(differ)} as" in words
    # both score in earnest: each has right and wrong answers among those that are alike
    assert {item["lmms_eval"] for item in result["items"] if not item["differs"]} >= {0.0, 1.0}


def test_a_score_that_no_rule_foretells_is_shown_and_makes_the_command_fail(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = generate("mvbench", 60)
    without = tuple(rule for rule in rules.RULES["mvbench"] if rule.name != "lone letter")
    monkeypatch.setitem(rules.RULES, "mvbench", without)
    code, words, result = check("mvbench", lines)
    assert code == 1 and result["unforetold"] > 5
    assert f"{result['unforetold']} that no rule foretold" in words


def test_a_difference_that_a_rule_foretells_must_come(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    (drawn,) = rules.RULES["longvideobench"]
    wrong = replace(drawn, foretells=lambda answered: frozenset({0.5}))
    monkeypatch.setitem(rules.RULES, "longvideobench", (wrong,))
    code, _, result = check("longvideobench", generate("longvideobench", 20))
    assert code == 1 and result["unforetold"] == 20


def test_responses_without_an_official_score_are_counted_apart(check: Check) -> None:
    judged, *others = generate("mmvu", 4)
    lines = [judged, *({name: line[name] for name in ("id", "doc", "response")} for line in others)]
    code, words, result = check("mmvu", lines)
    assert code == 0 and len(result["items"]) == 1 and result["not_compared"] == 3
    assert "3 more have no official score" in words


def test_lmms_eval_stays_in_its_environment(environment: Path) -> None:
    own = "import importlib.util, sys; sys.exit(importlib.util.find_spec('lmms_eval') is None)"
    assert subprocess.run([environment / "bin" / "python", "-I", "-c", own]).returncode == 0
    assert subprocess.run([sys.executable, "-c", own]).returncode == 1


def test_an_environment_that_is_there_is_taken_as_it_is(environment: Path) -> None:
    before = (environment / "made-by-deepvideo-crosscheck").stat().st_mtime_ns
    assert prepare_environment(environment) == environment / "bin" / "python"
    assert (environment / "made-by-deepvideo-crosscheck").stat().st_mtime_ns == before


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BenchmarkError, match="holds something else"):
        prepare_environment(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["seed_bench_r1", "next_gqa"])
def test_a_benchmark_that_lmms_eval_lacks_is_refused(name: str, check: Check) -> None:
    with pytest.raises(RunRefused, match="lmms-eval has none of it; it has longvideobench"):
        check(name, [])


def test_every_rule_tells_a_difference_in_the_generated_responses_before_lmms_eval_is_asked() -> None:
    silent = {(rule.name, rule.why) for found in rules.RULES.values() for rule in found}
    for name, found in rules.RULES.items():
        benchmark = find_benchmark(name)
        for line in generate(name):
            sample, reply = benchmark.sample(line["doc"]), line.get("judge_reply")
            official = score_response(benchmark.protocol("official"), sample, line["response"], reply).score
            answered = Answered(sample, line["response"], reply, official)
            spoken = next((rule for rule in found if rule.foretells(answered) is not None), None)
            if spoken and spoken.foretells(answered) != frozenset({official}):
                silent.discard((spoken.name, spoken.why))
    assert not silent


def test_the_readmes_table_of_rules_is_what_the_rules_say() -> None:
    assert README.read_text() == readme(), "run: python -m tests.evaluation.crosscheck_table"
