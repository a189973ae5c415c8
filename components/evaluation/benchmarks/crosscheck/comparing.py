"""The official protocol and lmms-eval response by response: alike, different as a rule foretold, or otherwise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.evaluation.benchmarks.contracts import Benchmark, BenchmarkError
from components.evaluation.benchmarks.crosscheck.contracts import Answered, Score
from components.evaluation.benchmarks.crosscheck.environment import VERSION, lmms_eval_scores
from components.evaluation.benchmarks.crosscheck.rules import RULES
from components.evaluation.benchmarks.crosscheck.tasks import lmms_eval_task
from components.evaluation.benchmarks.responses import Answers
from components.evaluation.benchmarks.scoring import score_answers

PROTOCOL = "official"
_NEAR = 1e-9  # scores closer than this are equal


@dataclass(frozen=True)
class Compared:
    """One response. `rule` is the rule that spoke beforehand, "" where none did and the official score was foretold."""

    id: str
    response: str
    official: Score
    lmms_eval: Score
    foretold: tuple[Score, ...]
    rule: str
    read: str  # what lmms-eval took for the answer
    error: str = ""  # what lmms-eval raised instead of a score

    @property
    def differs(self) -> bool:
        """Whether the two scores are not the same."""
        return bool(self.error) or not _same(self.official, self.lmms_eval)

    @property
    def explained(self) -> bool:
        """Whether lmms-eval's score is the one foretold: a difference that a rule foretells must come, too."""
        return not self.error and any(_same(score, self.lmms_eval) for score in self.foretold)


def foretell(benchmark: str, answered: Answered) -> tuple[tuple[Score, ...], str]:
    """What lmms-eval will give, and the rule that says so. Raises BenchmarkError if lmms-eval lacks the benchmark."""
    lmms_eval_task(benchmark, answered.sample)
    for rule in RULES[benchmark]:
        if (scores := rule.foretells(answered)) is not None:
            return tuple(sorted(scores, key=str)), rule.name
    return (answered.official,), ""


def crosscheck(benchmark: Benchmark, answers: Answers, python: Path) -> dict[str, Any]:
    """Both scores of every response that the official protocol scores, as JSON; `python` is the environment's.

    Raises BenchmarkError if lmms-eval lacks the benchmark, or if no response can be compared.
    """
    items = score_answers(benchmark.protocol(PROTOCOL), answers)
    lines, foretold = [], []
    for item in items:
        if item.scored is None:
            continue
        response = answers.responses[item.sample.id]
        text = response.text or ""
        task, doc = lmms_eval_task(benchmark.name, item.sample)
        answered = Answered(item.sample, text, response.judge_reply, item.scored.score)
        foretold.append((answered, *foretell(benchmark.name, answered)))
        line = {"id": item.sample.id, "task": task, "doc": doc}
        lines.append(line | {"response": text, "judge_reply": response.judge_reply})
    if not lines:
        raise BenchmarkError(
            f"{benchmark.name}: no response can be compared; the official protocol has a score for none of {len(items)}, "
            "which may be for want of `judge_reply`"
        )
    *given, last = lmms_eval_scores(python, lines)
    compared = [_compared(*told, theirs) for told, theirs in zip(foretold, given, strict=True)]
    return {
        "schema_version": 1,
        "benchmark": benchmark.name,
        "protocol": PROTOCOL,
        "lmms_eval": VERSION,
        "figures": last["figures"],
        "not_compared": len(items) - len(lines),
        "unforetold": sum(not one.explained for one in compared),
        "items": [asdict(one) | {"differs": one.differs, "explained": one.explained} for one in compared],
    }


def _compared(answered: Answered, foretold: tuple[Score, ...], rule: str, theirs: dict[str, Any]) -> Compared:
    return Compared(
        id=answered.sample.id,
        response=answered.text,
        official=answered.official,
        lmms_eval=theirs.get("score"),
        foretold=foretold,
        rule=rule,
        read=theirs.get("read", ""),
        error=theirs.get("error", ""),
    )


def _same(one: Score, other: Score) -> bool:
    return one is other if one is None or other is None else abs(one - other) < _NEAR
