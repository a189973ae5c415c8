"""The accuracy reward: whether the answer is the ground truth, compared as the sample's task asks for."""

from __future__ import annotations

import math
from collections.abc import Collection

from components.shared.rewards.answers import Fallback, find_answer, read_letter, read_number, words
from components.shared.rewards.iou import iou_reward
from components.shared.rewards.similarity import mean_rouge, word_error_rate
from components.shared.schemas import Sample

RIGHT = 0.5  # accuracy from which an answer counts as right where there are values between 0 and 1


def accuracy_reward(sample: Sample, text: str, fallbacks: Collection[Fallback] = ()) -> float:
    """In [0, 1]; 0 without an <answer> block. The last block counts where there are several; `fallbacks`: `find_answer`.

    multiple_choice, grounded_qa: 1 for the right option's letter in any of the forms of `read_letter`.
    numerical: 1 for the same number. regression: 1 - |answer - truth| / |truth|, at least 0.
    ocr: 1 - word error rate, at least 0, without case. free_form: `mean_rouge`, also without punctuation.
    temporal_grounding: the IoU.
    """
    answer = find_answer(text, fallbacks)
    if not answer:
        return 0.0
    if sample.task == "temporal_grounding":
        return iou_reward(sample, text, fallbacks)
    if sample.task == "numerical":
        return float(same_number(read_number(answer), read_number(sample.answer)))
    if sample.task == "regression":
        return closeness(read_number(answer), read_number(sample.answer))
    if sample.task == "ocr":
        return transcription(answer, sample.answer)
    if sample.options:
        letter = read_letter(answer, sample.options, fallbacks)
        return float(letter is not None and letter == read_letter(sample.answer, sample.options))
    return mean_rouge(words(sample.answer), words(answer))


def is_right(sample: Sample, text: str) -> bool:
    """Whether the answer, strictly read, counts as right: accuracy of at least RIGHT."""
    return accuracy_reward(sample, text) >= RIGHT


def same_number(given: float | None, truth: float | None) -> bool:
    """Equal within 1e-9 relative, or equal after rounding both to two decimals."""
    if given is None or truth is None:
        return False
    return math.isclose(given, truth, rel_tol=1e-9) or round(given, 2) == round(truth, 2)


def closeness(given: float | None, truth: float | None) -> float:
    """1 - relative error, at least 0; where the truth is 0 only 0 itself is close."""
    if given is None or truth is None:
        return 0.0
    if truth == 0:
        return float(given == 0)
    return max(0.0, 1 - abs(given - truth) / abs(truth))


def transcription(given: str, truth: str) -> float:
    """1 - word error rate, at least 0. Case does not count, punctuation does; a truth without words has nothing to read."""
    expected = truth.casefold().split()
    return max(0.0, 1 - word_error_rate(expected, given.casefold().split())) if expected else 0.0
