"""A judge asked about all responses that need it: several at once, each reply kept as it comes and asked for once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace

from components.evaluation.benchmarks.contracts import Benchmark, Scoring
from components.evaluation.benchmarks.judge import Judge, JudgeError, JudgeFailed
from components.evaluation.benchmarks.responses import Answers
from components.evaluation.benchmarks.scoring import recorded_reply, response_text
from components.evaluation.benchmarks.telling import told_progress
from components.shared.schemas import Sample
from components.shared.store import Store

REPLIES = "judge"  # where they lie in the store
FAILURES_IN_A_ROW = 5  # items whose every attempt failed, with no reply to another between them


@dataclass(frozen=True)
class _Question:
    sample: Sample
    text: str
    name: str  # of the object that keeps its reply


def judged(
    benchmark: Benchmark,
    scoring: Scoring,
    answers: Answers,
    judge: Judge,
    store: Store,
    *,
    unwrap: bool = False,
    allow_missing: bool = False,
) -> Answers:
    """The answers with the judge's reply wherever the protocol's rules leave a response to it; "" where it failed.

    What the file holds a reply to, or the store, is not asked again. Raises JudgeError where the endpoint refuses, where
    FAILURES_IN_A_ROW items got no reply and, unless `allow_missing`, where nothing that the judge said is a judgement.
    """
    questions = list(_questions(benchmark, scoring, answers, judge, unwrap))
    if scoring.judge is None or not questions:
        return answers
    found = store.read_objects([question.name for question in questions])
    replies = {name: json.loads(raw)["reply"] for name, raw in found.items() if raw is not None}
    open_questions = [question for question in questions if question.name not in replies]
    said, problem = _ask(benchmark, scoring, open_questions, judge, store, len(questions))
    replies |= said
    words = {question.sample.id: replies.get(question.name, "") for question in questions}
    if not allow_missing and all(scoring.judge.read(one.sample, words[one.sample.id]) is None for one in questions):
        problem = problem or f"it said {next(iter(words.values()))[:100]!r}"
        raise JudgeError(
            f"{benchmark.name}: the judge {judge.model} at {judge.address} gave no judgement on any of {len(questions)} "
            f"responses; the last problem: {problem}. Name another judge, or let --allow-missing score them as failed"
        )
    model = "" if unwrap else judge.model  # a reply to a part of the text counts here, as it stands
    responses = {
        name: response.model_copy(update={"judge_reply": words[name], "judge_model": model})
        if name in words
        else response
        for name, response in answers.responses.items()
    }
    return replace(answers, responses=responses)


def _questions(
    benchmark: Benchmark, scoring: Scoring, answers: Answers, judge: Judge, unwrap: bool
) -> Iterator[_Question]:
    for sample in answers.samples:
        response = answers.responses.get(sample.id)
        if response is None or response.text is None or recorded_reply(response, unwrap, judge.model) is not None:
            continue
        text = response_text(response.text, unwrap)
        if scoring.score(sample, text).needs_judge:
            key = judge.key(benchmark.name, scoring, sample, text)
            yield _Question(sample, text, f"{REPLIES}/{benchmark.name}/{key}.json")


def _ask(
    benchmark: Benchmark, scoring: Scoring, questions: Sequence[_Question], judge: Judge, store: Store, total: int
) -> tuple[Mapping[str, str], str]:
    """The replies by object, and the last problem of those that there is none of."""
    replies: dict[str, str] = {}
    problem, in_a_row, lock = "", 0, threading.Lock()
    if not questions:
        return replies, problem

    def one(question: _Question, stopped: threading.Event) -> str:
        nonlocal in_a_row
        if stopped.is_set():
            raise JudgeFailed("not asked")
        try:
            reply = judge.reply(scoring, question.sample, question.text, stopped)
        except JudgeError:
            stopped.set()
            raise
        except JudgeFailed as error:
            with lock:
                in_a_row += 1
                if in_a_row < FAILURES_IN_A_ROW or stopped.is_set():
                    raise
            stopped.set()
            raise JudgeError(
                f"{benchmark.name}: the judge {judge.model} at {judge.address} failed for {in_a_row} responses in a row, "
                f"the last time with {error}. What it said before is kept: the same command asks for the rest"
            ) from None
        with lock:
            in_a_row = 0
        record = {"id": question.sample.id, "model": judge.model, "reply": reply}
        store.write_object(question.name, json.dumps(record, ensure_ascii=False).encode())
        return reply

    with (
        told_progress(f"{benchmark.title}, judge {judge.model}", total=total, unit="responses") as advance,
        _threads(judge.requests) as (pool, stopped),
    ):
        advance(total - len(questions))
        asked: dict[Future[str], _Question] = {pool.submit(one, each, stopped): each for each in questions}
        for future in as_completed(asked):
            try:
                replies[asked[future].name] = future.result()
            except JudgeFailed as error:
                problem = str(error)
            advance()
    return replies, problem


@contextmanager
def _threads(count: int) -> Iterator[tuple[ThreadPoolExecutor, threading.Event]]:
    """Threads, and the event that ends their waits. When the block ends or fails, what has not begun is dropped."""
    pool, stopped = ThreadPoolExecutor(count, thread_name_prefix="judge"), threading.Event()
    try:
        yield pool, stopped
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)
