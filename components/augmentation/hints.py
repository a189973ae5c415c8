"""From answer-given responses to a hint: the best one's reasoning, cut to its share and before it tells."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from components.augmentation.leaks import first_leak
from components.shared.prompts import extract_reasoning
from components.shared.rewards.accuracy import is_right
from components.shared.schemas import Response, Sample

NoHint = Literal["", "no response right", "no reasoning", "nothing left"]
TokenEnds = Callable[[str], Sequence[int]]  # a text's tokens, as the position behind each one's last character


class Hint(NamedTuple):
    """A hint, or why there is none. `tokens` is its length."""

    text: str
    tokens: int
    reason: NoHint


def make_hint(
    sample: Sample, responses: Sequence[Response], fraction: float, max_tokens: int, token_ends: TokenEnds
) -> Hint:
    """The hint that a sample's answer-given, scored responses give: a leading part of the best one's reasoning.

    `fraction` is the share of the reasoning's tokens. The hint ends before the reasoning's first mention of the answer,
    even if that mention is whole only beyond the share.
    """
    right = [response for response in responses if is_right(sample, response.text)]
    if not right:
        return Hint("", 0, "no response right")
    reasoning = extract_reasoning(best_response(right).text)
    if not reasoning:
        return Hint("", 0, "no reasoning")
    text = cut(reasoning, sample, fraction, max_tokens, token_ends)
    return Hint(text, len(token_ends(text)), "" if text else "nothing left")


def best_response(responses: Sequence[Response]) -> Response:
    """The one of highest reward; among equals of highest log-prob (summed over its tokens), then of lowest index."""
    return min(responses, key=lambda response: (-response.reward, -math.fsum(response.logprobs), response.index))


def cut(reasoning: str, sample: Sample, fraction: float, max_tokens: int, token_ends: TokenEnds) -> str:
    """The first `fraction` of the reasoning's tokens, rounded down, at most `max_tokens`, and nothing that tells."""
    ends = token_ends(reasoning)
    kept = min(int(fraction * len(ends) + 1e-9), max_tokens)
    end = ends[kept - 1] if kept else 0
    whole = first_leak(reasoning, sample)
    text = reasoning[: end if whole is None else min(end, whole)]
    while (leak := first_leak(text, sample)) is not None:  # the cut itself can make one: "Bee" to "B", "35" to "3"
        text = text[:leak]
    return text.rstrip()
