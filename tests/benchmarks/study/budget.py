"""The accounting: what counts as a sampled response, and how many prompts the next round may take.

Every arm gets the same number of sampled responses in all. What counts is every response that the policy was asked for
in a round: the groups that difficulty is estimated from (and that un-augmented samples are trained on), the answer-given
responses that hints are made of, and the groups under augmented prompts. Evaluations do not count.
"""

from __future__ import annotations

from typing import NamedTuple


class Spent(NamedTuple):
    """Responses sampled in a round, by what for."""

    difficulty: int
    hints: int
    rollout: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.difficulty + self.hints + self.rollout


def next_prompts(left: float, cost: float, usual: int) -> int:
    """Samples of the next round when `left` responses may still be sampled and a sample costs about `cost`; 0: no round.

    Rounds are of the `usual` size but the last, which takes what is left: half a usual round to one and a half.
    """
    rounds = left / (cost * usual)
    if rounds < 0.5:
        return 0
    return usual if rounds >= 1.5 else round(left / cost)
