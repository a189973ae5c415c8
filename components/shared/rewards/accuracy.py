"""The accuracy reward: whether the answer is the ground truth, compared as the sample's task asks for."""

from __future__ import annotations

import math

from components.shared.prompts import extract_answer
from components.shared.rewards.answers import normalise_text, read_letter, read_number
from components.shared.rewards.iou import iou_reward
from components.shared.schemas import Sample

RIGHT = 0.5  # accuracy from which an answer counts as right; only IoU and regression give values between 0 and 1


def accuracy_reward(sample: Sample, text: str) -> float:
    """In [0, 1]; 0 without an <answer> block. The last block counts where there are several.

    multiple_choice, grounded_qa: 1 for the right option's letter in any of the forms of `read_letter`.
    numerical: 1 for the same number. regression: 1 - |answer - truth| / |truth|, at least 0.
    ocr: 1 for the same text but for case and white space. free_form: also but for punctuation and articles.
    temporal_grounding: the IoU.
    """
    answer = extract_answer(text)
    if not answer:
        return 0.0
    if sample.task == "temporal_grounding":
        return iou_reward(sample, text)
    if sample.task == "numerical":
        return float(same_number(read_number(answer), read_number(sample.answer)))
    if sample.task == "regression":
        return closeness(read_number(answer), read_number(sample.answer))
    if sample.task == "ocr":
        return float(answer.casefold().split() == sample.answer.casefold().split())
    if sample.options:
        letter = read_letter(answer, sample.options)
        return float(letter is not None and letter == read_letter(sample.answer, sample.options))
    given, truth = normalise_text(answer), normalise_text(sample.answer)
    return float(given == truth and bool(given))


def is_right(sample: Sample, text: str) -> bool:
    """Whether the answer counts as right: accuracy of at least RIGHT."""
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
