"""Every objective, value and gradient, against its paper's formula in loops (tests/plain_objectives.py), in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor

from components.training.advantages import informative, normalised
from components.training.loss import group_losses, squared_gradient_norms
from components.training.objectives import OBJECTIVES, ObjectiveName
from components.training.objectives.inputs import LossInputs
from components.training.settings import TrainingSettings
from tests import plain_objectives as plain

GROUPS, RESPONSES, TOKENS = 40, 6, 5
RELATIVE = 1e-8  # promised is 1e-6; a single operation in float32 shows above this


def random_inputs(std_floor: float, seed: int = 0) -> LossInputs:
    """Groups of 2 to 6 responses of 1 to 5 tokens, a sixth of them left out; log-ratios on both sides of a clip."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    counts = torch.randint(2, RESPONSES + 1, (GROUPS,), generator=generator)
    lengths = torch.randint(1, TOKENS + 1, (GROUPS, RESPONSES), generator=generator)
    present = torch.arange(RESPONSES) < counts[:, None]
    tokens = present[..., None] & (torch.arange(TOKENS) < lengths[..., None])
    left_out = (torch.rand(GROUPS, RESPONSES, generator=generator) < 1 / 6) & (torch.arange(RESPONSES) >= 2)
    responses = present & ~left_out
    old = torch.where(tokens, -normal(GROUPS, RESPONSES, TOKENS).abs(), 0)
    rewards = normal(GROUPS, RESPONSES)
    inputs = LossInputs(
        logprobs=torch.where(tokens, old + 0.3 * normal(*old.shape), 0).requires_grad_(),
        old_logprobs=old,
        ref_logprobs=torch.where(tokens, old + 0.3 * normal(*old.shape), 0),
        tokens=tokens,
        responses=responses,
        rewards=rewards,
        advantages=normalised(rewards, responses, std_floor),
        informative=informative(rewards, responses),
        tokens_per_group=(tokens & responses[..., None]).sum().item() / GROUPS,
    )
    assert inputs.informative.all() and (~responses & present).any() and (lengths[present] == 1).any()
    return inputs


def plain_groups(inputs: LossInputs) -> list[list[plain.PlainResponse]]:
    """The same groups without padding, and without the responses that are left out."""
    assert inputs.ref_logprobs is not None
    return [
        [
            plain.PlainResponse(
                logprobs=inputs.logprobs[g, i][inputs.tokens[g, i]],
                old=inputs.old_logprobs[g, i][inputs.tokens[g, i]],
                ref=inputs.ref_logprobs[g, i][inputs.tokens[g, i]],
                reward=inputs.rewards[g, i].item(),
            )
            for i in range(RESPONSES)
            if inputs.responses[g, i]
        ]
        for g in range(GROUPS)
    ]


def grpo_by_response(group: plain.Group, floor: float, low: float | None, high: float | None) -> Tensor:
    return -plain.mean([plain.mean(row) for row in plain.grpo_tokens(group, floor, low, high)])


def grpo_by_group(group: plain.Group, floor: float, low: float | None, high: float | None) -> Tensor:
    return -plain.mean([value for row in plain.grpo_tokens(group, floor, low, high) for value in row])


CASES: list[tuple[dict[str, object], Callable[[plain.Group], Tensor]]] = [
    ({"objective": "reg_grpo", "std_floor": 1e-3}, lambda group: plain.reg_grpo(group, 1e-3)),
    ({"objective": "reg_grpo", "std_floor": 1.0}, lambda group: plain.reg_grpo(group, 1.0)),
    ({"objective": "grpo", "std_floor": 1e-3}, lambda group: grpo_by_response(group, 1e-3, 0.2, 0.2)),
    ({"objective": "grpo", "epsilon_high": 0.28}, lambda group: grpo_by_response(group, 1.0, 0.2, 0.28)),
    ({"objective": "grpo", "epsilon": 0.0}, lambda group: grpo_by_response(group, 1.0, None, None)),
    ({"objective": "grpo", "loss_type": "bnpo"}, lambda group: grpo_by_group(group, 1.0, 0.2, 0.2)),
    ({"objective": "rloo"}, lambda group: plain.rloo(group, 0.2, 0.2)),
    ({"objective": "rloo", "epsilon": 0.3, "epsilon_high": 0.5}, lambda group: plain.rloo(group, 0.3, 0.5)),
    ({"objective": "rloo", "epsilon": 0.0}, lambda group: plain.rloo(group, None, None)),
    ({"objective": "reinforce"}, plain.reinforce),
    ({"objective": "rebel"}, lambda group: plain.rebel(group, 1.0)),
    ({"objective": "rebel", "eta": 0.3}, lambda group: plain.rebel(group, 0.3)),
    ({"objective": "reward_regression"}, lambda group: plain.reward_regression(group, 1.0)),
    ({"objective": "reward_regression", "eta": 2.5}, lambda group: plain.reward_regression(group, 2.5)),
    ({"objective": "dpo"}, lambda group: plain.dpo(group, 0.1)),
    ({"objective": "online_dpo", "beta": 2.0}, lambda group: plain.dpo(group, 2.0)),
]


@pytest.mark.parametrize(("given", "formula"), CASES, ids=lambda value: str(value) if isinstance(value, dict) else "")
def test_value_and_gradient_are_the_papers(given: dict[str, object], formula: Callable[[plain.Group], Tensor]) -> None:
    settings = TrainingSettings(**given)
    inputs = random_inputs(settings.std_floor)
    objective = group_losses(inputs, settings).objective
    expected = torch.stack([formula(group) for group in plain_groups(inputs)])
    (gradient,) = torch.autograd.grad(objective.sum(), inputs.logprobs)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), inputs.logprobs)
    assert ((objective - expected).abs() / expected.abs()).max().item() <= RELATIVE
    errors = (gradient - expected_gradient).flatten(1).norm(dim=1) / expected_gradient.flatten(1).norm(dim=1)
    assert errors.nan_to_num(0).max().item() <= RELATIVE  # 0 / 0 where every ratio of a group is clipped
    assert (gradient[~inputs.active] == 0).all()


def test_every_objective_has_such_a_case_and_a_function() -> None:
    assert {given["objective"] for given, _ in CASES} == set(OBJECTIVES) == set(get_args(ObjectiveName))


def test_dapos_mean_over_groups_is_the_mean_over_the_steps_tokens() -> None:
    settings = TrainingSettings(objective="grpo", loss_type="dapo")
    inputs = random_inputs(1.0)
    value = group_losses(inputs, settings).objective.mean()
    tokens = [t for group in plain_groups(inputs) for row in plain.grpo_tokens(group, 1.0, 0.2, 0.2) for t in row]
    expected = -plain.mean(tokens)
    assert abs(value.item() - expected.item()) / abs(expected.item()) <= RELATIVE
    (gradient,) = torch.autograd.grad(value, inputs.logprobs)
    (expected_gradient,) = torch.autograd.grad(expected, inputs.logprobs)
    assert ((gradient - expected_gradient).norm() / expected_gradient.norm()).item() <= RELATIVE


def test_at_unchanged_weights_rloos_gradient_is_the_papers_policy_gradient() -> None:
    # Ahmadian et al.: -mean_i (R_i - mean of the others) d log pi(y_i), the same for each of a response's tokens
    inputs = random_inputs(1.0)
    inputs = LossInputs(**{**vars(inputs), "logprobs": inputs.old_logprobs.clone().requires_grad_()})
    value = group_losses(inputs, TrainingSettings(objective="rloo")).objective.sum()
    (gradient,) = torch.autograd.grad(value, inputs.logprobs)
    for g in range(GROUPS):
        there = inputs.responses[g].nonzero().flatten().tolist()
        for i in there:
            others = [inputs.rewards[g, j].item() for j in there if j != i]
            weight = -(inputs.rewards[g, i].item() - sum(others) / len(others)) / len(there)
            assert gradient[g, i][inputs.tokens[g, i]].tolist() == pytest.approx(
                [weight] * int(inputs.tokens[g, i].sum())
            )


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_the_gradients_that_are_reported_are_the_ones_that_autograd_gives_each_term(name: ObjectiveName) -> None:
    settings = TrainingSettings(objective=name, beta=0.7)
    inputs = random_inputs(1.0)
    losses = group_losses(inputs, settings)
    objective, penalty = squared_gradient_norms(inputs, settings)
    (expected,) = torch.autograd.grad(losses.objective.sum(), inputs.logprobs, retain_graph=True)
    assert objective.sqrt().tolist() == pytest.approx(expected.flatten(1).norm(dim=1).tolist(), rel=1e-9)
    if not OBJECTIVES[name].kl_penalty:
        assert penalty.tolist() == [0.0] * GROUPS and losses.loss is losses.objective
        return
    (total,) = torch.autograd.grad(losses.loss.sum(), inputs.logprobs)
    assert penalty.sqrt().tolist() == pytest.approx((total - expected).flatten(1).norm(dim=1).tolist(), rel=1e-6)
