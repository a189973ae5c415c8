"""The objectives as their papers print them: loops over pairs, responses and tokens of one group, in float64.

They share no code with the project's. A group is a list of responses, without padding and without those left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PlainResponse:
    """Log-probs of its tokens under pi_theta (with gradient), pi_old and pi_ref, and its reward."""

    logprobs: Tensor
    old: Tensor
    ref: Tensor
    reward: float

    @property
    def rho(self) -> Tensor:
        return sum((new - old for new, old in zip(self.logprobs, self.old, strict=True)), torch.tensor(0.0))


Group = Sequence[PlainResponse]


def mean(values: Sequence) -> Tensor | float:
    return sum(values) / len(values)


def standardised(values: Sequence, floor: float) -> list:
    centre = mean(values)
    variance = mean([(value - centre) ** 2 for value in values])
    return [(value - centre) / (variance + floor**2) ** 0.5 for value in values]


def reg_grpo(group: Group, floor: float) -> Tensor:
    """Equation 8 of DeepVideo-R1, with the floor in both standard deviations."""
    targets = standardised([r.reward for r in group], floor)
    predictions = standardised([r.rho for r in group], floor)
    return mean([(a - p) ** 2 for a, p in zip(targets, predictions, strict=True)])


def ppo(ratio: Tensor, advantage: float, low: float | None, high: float | None) -> Tensor:
    """A surrogate of one ratio; `low` None: not clipped."""
    if low is None or high is None:
        return ratio * advantage
    clipped = min(max(ratio, ratio.new_tensor(1 - low)), ratio.new_tensor(1 + high))
    return min(ratio * advantage, clipped * advantage)


def grpo_tokens(group: Group, floor: float, low: float | None, high: float | None) -> list[list[Tensor]]:
    """The surrogate of every token, by response."""
    advantages = standardised([r.reward for r in group], floor)
    return [
        [ppo((new - old).exp(), a, low, high) for new, old in zip(r.logprobs, r.old, strict=True)]
        for r, a in zip(group, advantages, strict=True)
    ]


def rloo(group: Group, low: float | None, high: float | None) -> Tensor:
    """Ahmadian et al.: each response's baseline is the mean of the others' rewards."""
    terms = []
    for i, response in enumerate(group):
        others = [other.reward for j, other in enumerate(group) if j != i]
        terms.append(ppo(response.rho.exp(), response.reward - mean(others), low, high))
    return -mean(terms)


def reinforce(group: Group) -> Tensor:
    """Williams: the log-likelihood of each response times its reward."""
    return -mean([r.reward * sum(r.logprobs) for r in group])


def rebel(group: Group, eta: float) -> Tensor:
    """Gao et al., equation 5 times eta^2, over all pairs."""
    pairs = itertools.combinations(group, 2)
    return mean([((x.rho - y.rho) - eta * (x.reward - y.reward)) ** 2 for x, y in pairs])


def reward_regression(group: Group, eta: float) -> Tensor:
    """The closed form of the KL-constrained optimum, solved for R, with Z by Monte Carlo."""
    z = mean([math.exp(eta * r.reward) for r in group])
    return mean([(r.reward - r.rho / eta - math.log(z) / eta) ** 2 for r in group])


def dpo(group: Group, beta: float) -> Tensor:
    """Rafailov et al., equation 7, over the pairs whose first response has the higher reward."""
    losses = []
    for x, y in itertools.permutations(group, 2):
        if x.reward > y.reward:
            margin = beta * (sum(x.logprobs) - sum(x.ref)) - beta * (sum(y.logprobs) - sum(y.ref))
            losses.append(-(1 / (1 + (-margin).exp())).log())
    return mean(losses)
