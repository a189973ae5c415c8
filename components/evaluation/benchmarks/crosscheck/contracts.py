"""What a rule of the cross-check is: a class of responses, and the score that lmms-eval will give each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from components.shared.schemas import Sample

Score = float | None  # None: outside the denominator


@dataclass(frozen=True)
class Answered:
    """A response and what the `official` protocol made of it. lmms-eval's score is not in it: rules speak beforehand."""

    sample: Sample
    text: str
    judge_reply: str | None
    official: Score


@dataclass(frozen=True)
class Rule:
    """One way in which lmms-eval scores otherwise than the official scorer.

    `foretells` returns lmms-eval's score, or all that it may be where it draws; None for a response that the rule says
    nothing of. Rules are asked in order and the first that speaks counts; where none does, the official score is foretold.
    """

    name: str
    why: str  # one sentence for people: what lmms-eval does
    foretells: Callable[[Answered], frozenset[Score] | None]


def scored_as(right: bool) -> frozenset[Score]:
    """The score of a right or a wrong answer."""
    return frozenset({float(right)})
