"""Responses under one protocol: its rules first and then, where they say so, a judge's word."""

from __future__ import annotations

from components.evaluation.benchmarks.contracts import BenchmarkError, Scored, Scoring
from components.evaluation.benchmarks.responses import Answers, Response
from components.evaluation.benchmarks.summary import Item
from components.shared.rewards.answers import Fallback, find_answer
from components.shared.schemas import Sample

JUDGE_FAILED = "the judge gave no judgement"
_UNWRAPPED: tuple[Fallback, ...] = ("whole_response",)


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
    failure = "" if judged is not None else JUDGE_FAILED
    score = scoring.judge.failed(sample) if judged is None else judged
    return scored.model_copy(update={"score": score, "failure": failure, "needs_judge": False})


def score_answers(scoring: Scoring, answers: Answers, *, unwrap: bool = False) -> list[Item]:
    """Every item that should be answered, in order, with its score or the reason why it has none.

    `unwrap` hands the protocol the last <answer> block alone, or what follows </think> where there is none: for
    protocols that were not made for reasoning.
    """
    if unwrap and scoring.fallbacks is not None:
        raise BenchmarkError(f"--unwrap: protocol {scoring.name} needs the <answer> block; it unwraps by itself")
    return [_item(scoring, answers, sample, unwrap) for sample in answers.samples]


def response_text(text: str, unwrap: bool) -> str:
    """What the protocol, and its judge, are given of a response."""
    return (find_answer(text, _UNWRAPPED) or "") if unwrap else text


def recorded_reply(response: Response, unwrap: bool, model: str = "") -> str | None:
    """The judge's reply that stands beside the response, None if there is none that fits.

    One that names its judge was given on the whole text, by that model alone: it is of no use to `unwrap`, where that
    changes the text, nor to another `model`.
    """
    text = response.text or ""
    if response.judge_model and (response_text(text, unwrap) != text or model not in ("", response.judge_model)):
        return None
    return response.judge_reply


def _item(scoring: Scoring, answers: Answers, sample: Sample, unwrap: bool) -> Item:
    response = answers.responses.get(sample.id)
    if response is None or response.text is None:
        return Item(sample, None, "missing" if response is None else "error")
    reply = recorded_reply(response, unwrap)
    scored = score_response(scoring, sample, response_text(response.text, unwrap), reply)
    if scored.needs_judge and scored.score is None:
        return Item(sample, None, "needs a judge")
    return Item(sample, scored, judge_failed=scored.failure == JUDGE_FAILED)
