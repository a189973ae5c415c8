"""The `video_r1` protocol: the evaluation of Video-R1, which the paper follows on six benchmarks. Defects included."""

from __future__ import annotations

import re

import numpy as np

from components.evaluation.benchmarks.contracts import Decoding, FramePolicy, Scored, Scoring
from components.evaluation.benchmarks.rows import lettered
from components.shared.prompts import option_letter
from components.shared.schemas import Sample, Task

SOURCE = "tulerfeng/Video-R1@59d65c347e44efa71be27abf9d89b4a2bb7d1c05 src/eval_bench.py#reward_fn"
FRAMES = FramePolicy(fps=2, min_frames=4, max_frames=16, min_pixels=128 * 28 * 28, max_pixels=128 * 28 * 28)
DECODING = Decoding(temperature=0.1, top_p=0.001, max_new_tokens=1024)

_ANSWER = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL)
_THINK = (
    "{question}\n"
    "Please think about this question as if you were a human pondering deeply. Engage in an internal dialogue using "
    "expressions such as 'let me think', 'wait', 'Hmm', 'oh, I see', 'let's break it down', etc, or other natural "
    "language thought expressions It's encouraged to include self-reflection or verification in the reasoning process. "
    "Provide your detailed reasoning between the <think> and </think> tags, and then give your final answer between the "
    "<answer> and </answer> tags."
)
_NUMBER = " Please provide the numerical value (e.g., 42 or 3.14) within the <answer> </answer> tags."
_TEXT = " Please provide your text answer within the <answer> </answer> tags."
_ASK: dict[Task, str] = {
    "multiple_choice": " Please provide only the single option letter (e.g., A, B, C, D, etc.) within the <answer> "
    "</answer> tags.",
    "numerical": _NUMBER,
    "regression": _NUMBER,
}


def prompt(sample: Sample) -> str:
    """The question, its options directly behind it, the instruction to think, and the form of the answer."""
    question = sample.question
    if sample.options:
        question += "Options:\n" + "".join(f"{line}\n" for line in lettered(sample.options))
    return _THINK.format(question=question) + _ASK.get(sample.task, _TEXT)


def score(sample: Sample, text: str) -> Scored:
    """The first <answer> block, or else the whole text, compared as a string (options) or a number; texts earn nothing."""
    found = _ANSWER.search(text)
    answer = (found.group(1) if found else "").strip() or text
    failure = "" if found and found.group(1).strip() else "no <answer> block: the whole text was compared"
    if sample.options:
        letters = [option_letter(index) for index in range(len(sample.options))]
        if answer.strip() not in letters:
            failure = failure or "not a bare option letter"
        return Scored(score=float(answer.strip() == sample.answer.strip()), parsed=answer.strip(), failure=failure)
    if sample.task not in ("numerical", "regression"):
        return Scored(score=0.0, parsed=answer, failure="the protocol scores no texts")
    given, truth = _number(answer), _number(sample.answer)
    if given is None or truth is None:
        return Scored(score=0.0, parsed=answer, failure="not a number")
    if sample.task == "regression":
        return Scored(score=relative_accuracy(given, truth), parsed=answer, failure=failure)
    if _has_point(answer) != _has_point(sample.answer):
        return Scored(score=0.0, parsed=answer, failure="one side has a point or comma, the other has none")
    return Scored(score=float(round(given, 2) == round(truth, 2)), parsed=answer, failure=failure)


def relative_accuracy(given: float, truth: float) -> float:
    """Mean relative accuracy in single precision, by a strict `<`: an error that rounds to a threshold can miss it."""
    single = np.float32
    with np.errstate(all="ignore"):
        error = np.abs(single(given) - single(truth)) / (np.abs(single(truth)) + single(1e-8))
        thresholds = (0.5 + 0.05 * np.arange(10)).astype(single)
        return int(np.sum(error < single(1) - thresholds)) / 10


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def _has_point(text: str) -> bool:
    return "." in text or "," in text


PROTOCOL = Scoring("video_r1", 1, SOURCE, score, prompt, FRAMES, DECODING)
