"""One response under one protocol, its rules first and then, where they say so, a judge's word."""

from __future__ import annotations

from components.evaluation.benchmarks.contracts import BenchmarkError, Scored, Scoring
from components.shared.schemas import Sample


def score_response(scoring: Scoring, sample: Sample, text: str, judge_reply: str | None = None) -> Scored:
    """What the protocol makes of a response. `judge_reply` counts where its rules leave the response to a judge; None: no judge.

    A reply that is no judgement scores what the protocol's own code gives for a failed judge.
    """
    scored = scoring.score(sample, text)
    if not scored.needs_judge or judge_reply is None:
        return scored
    if scoring.judge is None:
        raise BenchmarkError(f"protocol {scoring.name} leaves {sample.id} to a judge, but names none")
    judged = scoring.judge.read(sample, judge_reply)
    failure = "" if judged is not None else "the judge gave no judgement"
    score = scoring.judge.failed(sample) if judged is None else judged
    return scored.model_copy(update={"score": score, "failure": failure, "needs_judge": False})
