"""The IoU reward: how well the intervals of a response cover the ground truth's, as sets of points in time."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from components.shared.rewards.answers import Fallback, find_answer, read_glue, read_spans
from components.shared.schemas import Sample, Span


def has_spans(sample: Sample) -> bool:
    """Whether the reward applies: the sample has ground-truth intervals and its task asks for some."""
    return sample.task in ("temporal_grounding", "grounded_qa")


def iou_reward(sample: Sample, text: str, fallbacks: Collection[Fallback] = ()) -> float:
    """Interval-set IoU of the <answer> block's intervals (grounded_qa: the <glue> block's); 0 if there are none."""
    stated = read_glue(text) if sample.task == "grounded_qa" else find_answer(text, fallbacks)
    return interval_iou(read_spans(stated or ""), sample.spans)


def interval_iou(predicted: Sequence[Span], truth: Sequence[Span]) -> float:
    """Intersection over union of two sets of intervals, overlapping ones merged first on each side.

    0 if the union has no length, or if an interval ends before it starts or is not finite.
    """
    if any(not (math.isfinite(end) and start <= end) for start, end in (*predicted, *truth)):
        return 0.0
    union = _length(_merged([*predicted, *truth]))
    if union <= 0:
        return 0.0
    shared = _length(_merged(predicted)) + _length(_merged(truth)) - union
    return min(1.0, max(0.0, shared / union))


def _merged(spans: Sequence[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _length(spans: Sequence[Span]) -> float:
    return math.fsum(end - start for start, end in spans)
