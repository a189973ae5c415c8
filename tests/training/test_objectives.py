"""Objectives, advantages and KL against hand-calculated values, closed forms and autograd."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from components.training.advantages import informative, masked_std, normalised
from components.training.kl import group_kl, token_kl
from components.training.loss import group_losses
from components.training.objectives.grpo import grpo
from components.training.objectives.inputs import LossInputs, log_ratios
from components.training.objectives.reg_grpo import reg_grpo
from components.training.settings import TrainingSettings


def made(
    rho: torch.Tensor, rewards: torch.Tensor, std_floor: float, responses: torch.Tensor | None = None
) -> LossInputs:
    """Groups whose responses have one token each, so that a token's log-ratio is rho."""
    taking_part = torch.ones_like(rewards, dtype=torch.bool) if responses is None else responses
    logprobs = (rho - 2.0)[..., None]
    return LossInputs(
        logprobs=logprobs,
        old_logprobs=torch.full_like(logprobs, -2.0),
        ref_logprobs=None,
        tokens=torch.ones_like(logprobs, dtype=torch.bool),
        responses=taking_part,
        rewards=rewards,
        advantages=normalised(rewards, taking_part, std_floor),
        informative=informative(rewards, taking_part),
        tokens_per_group=taking_part.sum().item() / len(rewards),
    )


def of_tokens(logprobs: torch.Tensor, old: torch.Tensor, tokens: torch.Tensor, advantages: torch.Tensor) -> LossInputs:
    """Groups whose every response takes part, with these advantages."""
    taking_part, told = tokens.any(-1), torch.ones(len(tokens), dtype=torch.bool)
    return LossInputs(
        logprobs, old, None, tokens, taking_part, advantages, advantages, told, tokens.sum() / len(tokens)
    )


def settings(**values: object) -> TrainingSettings:
    return TrainingSettings(**{"std_floor": 1e-12, **values})


def random_groups(groups: int, size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rho = torch.randn(groups, size, generator=generator, dtype=torch.float64)
    return rho, torch.randn(groups, size, generator=generator, dtype=torch.float64)


def test_reg_grpo_has_the_value_calculated_by_hand() -> None:
    # R = (0, 0, 1, 1): mean 1/2, var 1/4; rho = (0, 1, 0, 1): the same numbers; floor^2 = 3/4 makes both std 1
    # A = (-1, -1, 1, 1)/2, A_theta = (-1, 1, -1, 1)/2: squares (0, 1, 1, 0), mean 1/2
    rho = torch.tensor([[0.0, 1.0, 0.0, 1.0]], dtype=torch.float64)
    rewards = torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    floor = math.sqrt(0.75)
    loss = reg_grpo(made(rho, rewards, floor), settings(std_floor=floor))
    assert loss.item() == pytest.approx(0.5, rel=1e-12)


def test_rho_is_the_sum_over_a_responses_tokens() -> None:
    logprobs = torch.tensor([[[-1.0, -2.0, -3.0], [-1.0, 0.0, 0.0]]])
    old = torch.tensor([[[-2.0, -1.5, -3.25], [-0.5, 0.0, 0.0]]])
    tokens = torch.tensor([[[True, True, True], [True, False, False]]])
    inputs = of_tokens(logprobs, old, tokens, torch.zeros(1, 2))
    assert log_ratios(inputs).tolist() == [[0.75, -0.5]]  # 1 - 0.5 + 0.25


def test_reg_grpo_is_twice_one_minus_the_correlation_where_nothing_is_floored() -> None:
    rho, rewards = random_groups(1000, 8)
    expected = [2 * (1 - torch.corrcoef(torch.stack(pair))[0, 1].item()) for pair in zip(rho, rewards, strict=True)]
    assert reg_grpo(made(rho, rewards, 1e-12), settings()).tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("size", [3, 8, 16])
def test_reg_grpos_gradient_is_the_closed_form(size: int) -> None:
    # method: dL/drho = -(2 / (G std)) * (A - <A, A_theta> / <A_theta, A_theta> * A_theta)
    rho, rewards = random_groups(100, size, seed=size)
    rho.requires_grad_()
    inputs = made(rho, rewards, 1e-12)
    reg_grpo(inputs, settings()).sum().backward()
    everyone = inputs.responses
    predicted = normalised(rho.detach(), everyone, 1e-12)
    share = (inputs.advantages * predicted).sum(-1, keepdim=True) / predicted.square().sum(-1, keepdim=True)
    std = masked_std(rho.detach(), everyone, 1e-12)[:, None]
    expected = -(2 / (size * std)) * (inputs.advantages - share * predicted)
    assert rho.grad is not None
    assert ((rho.grad - expected).norm() / expected.norm()).item() < 1e-6


def test_reg_grpos_gradient_with_a_floor_is_the_derivative() -> None:
    rho, rewards = random_groups(3, 5)
    given = settings(std_floor=0.3)

    def loss(values: torch.Tensor) -> torch.Tensor:
        return reg_grpo(made(values, rewards, 0.3), given).sum()

    assert torch.autograd.gradcheck(loss, rho.requires_grad_())


def test_at_unchanged_weights_the_gradient_is_minus_two_a_over_g_floor() -> None:
    # rho = 0: A_theta = 0 and std = floor, so that dL/drho = -(2 / (G floor)) A, and the loss is mean(A^2)
    rewards = torch.tensor([[0.0, 1.0, 2.0, 2.0]], dtype=torch.float64)
    rho = torch.zeros_like(rewards, requires_grad=True)
    inputs = made(rho, rewards, 0.1)
    loss = reg_grpo(inputs, settings(std_floor=0.1)).sum()
    loss.backward()
    assert loss.item() == pytest.approx(inputs.advantages.square().mean().item(), rel=1e-12)
    assert rho.grad is not None
    assert rho.grad.tolist()[0] == pytest.approx((-2 / (4 * 0.1) * inputs.advantages[0]).tolist(), rel=1e-9)


def test_the_loss_is_finite_at_any_scale_of_rho() -> None:
    rewards = torch.tensor([[0.0, 1.0, 1.0, 2.0]])
    for scale in (0.0, 1e-30, 1e-8, 1.0, 1e4):
        rho = (torch.tensor([[1.0, -1.0, 0.5, 2.0]]) * scale).requires_grad_()
        loss = reg_grpo(made(rho, rewards, 0.01), settings(std_floor=0.01)).sum()
        loss.backward()
        assert rho.grad is not None
        assert loss.isfinite() and rho.grad.isfinite().all()


def test_a_group_of_equal_rewards_adds_nothing_and_pulls_nothing_but_keeps_its_kl() -> None:
    rho = torch.randn(2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    rewards = torch.tensor([[1.0, 1.0, 1.0, 1.0 + 1e-9], [0.0, 1.0, 0.0, 1.0]], dtype=torch.float64)
    inputs = made(rho, rewards, 0.5)
    loss = reg_grpo(inputs, settings(std_floor=0.5))
    loss.sum().backward()
    assert inputs.informative.tolist() == [False, True]
    assert rho.grad is not None
    assert loss[0].item() == 0.0 and rho.grad[0].abs().max().item() == 0.0 and rho.grad[1].abs().max().item() > 0
    inputs = replace(inputs, ref_logprobs=inputs.logprobs.detach() + 0.3)
    with_kl = group_losses(inputs, settings(std_floor=0.5, beta=2.0))
    assert with_kl.loss[0].item() == pytest.approx(2 * (math.exp(0.3) - 1.3), rel=1e-9)  # k3 of r = 0.3


def test_responses_that_do_not_take_part_are_as_if_they_were_not_there() -> None:
    rho, rewards = random_groups(1, 5)
    responses = torch.tensor([[True, False, True, True, False]])
    whole = reg_grpo(made(rho, rewards, 0.2, responses), settings(std_floor=0.2))
    alone = reg_grpo(made(rho[responses][None], rewards[responses][None], 0.2), settings(std_floor=0.2))
    assert whole.item() == pytest.approx(alone.item(), rel=1e-12)


@pytest.mark.parametrize("left", [0, 1])
def test_a_group_that_shrinks_below_two_leaves_the_regression(left: int) -> None:
    rho, rewards = random_groups(1, 4)
    rho.requires_grad_()
    responses = torch.arange(4)[None] < left
    loss = reg_grpo(made(rho, rewards, 0.2, responses), settings(std_floor=0.2))
    loss.sum().backward()
    assert rho.grad is not None
    assert loss.item() == 0.0 and rho.grad.abs().max().item() == 0.0


def test_grpo_is_the_clipped_token_averaged_surrogate() -> None:
    # by hand, epsilon 0.2: response 1, A = 1, ratios 1.5 -> 1.2 and 1.1; response 2, A = -1, ratio 0.5: min(-0.5, -0.8)
    logprobs = torch.tensor([[[math.log(1.5), math.log(1.1)], [math.log(0.5), 0.0]]], dtype=torch.float64)
    tokens = torch.tensor([[[True, True], [True, False]]])
    advantages = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    inputs = of_tokens(logprobs, torch.zeros_like(logprobs), tokens, advantages)
    assert grpo(inputs, settings(objective="grpo")).item() == pytest.approx(-((1.2 + 1.1) / 2 - 0.8) / 2, rel=1e-12)


def test_grpos_gradient_at_unchanged_weights_is_the_policy_gradient() -> None:
    # d/dlogp of r A at r = 1 is A; averaged over the response's tokens and the group
    tokens = torch.tensor([[[True, True, True], [True, False, False]]])
    logprobs = torch.zeros(1, 2, 3, dtype=torch.float64, requires_grad=True)
    advantages = torch.tensor([[0.7, -0.7]], dtype=torch.float64)
    inputs = of_tokens(logprobs, logprobs.detach(), tokens, advantages)
    grpo(inputs, settings(objective="grpo")).sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad[0, 0].tolist() == pytest.approx([-0.7 / 3 / 2] * 3)
    assert logprobs.grad[0, 1].tolist() == pytest.approx([0.7 / 2, 0, 0])


def test_kl_estimators_have_their_definitions_and_agree_in_expectation() -> None:
    logp = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    ref = torch.tensor([0.3, 0.3, 0.4], dtype=torch.float64).log()
    ratio = ref - logp
    assert token_kl(logp, ref, "k1").tolist() == pytest.approx((-ratio).tolist())
    assert token_kl(logp, ref, "k2").tolist() == pytest.approx((ratio**2 / 2).tolist())
    assert token_kl(logp, ref, "k3").tolist() == pytest.approx((ratio.exp() - ratio - 1).tolist())
    exact = (logp.exp() * (logp - ref)).sum().item()  # E[k1] = E[k3] = KL over the whole vocabulary
    for name in ("k1", "k3"):
        assert (logp.exp() * token_kl(logp, ref, name)).sum().item() == pytest.approx(exact, rel=1e-12)


def test_kl_does_not_overflow() -> None:
    logp = torch.tensor([-200.0], requires_grad=True)
    value = token_kl(logp, torch.tensor([0.0]), "k3")
    value.sum().backward()
    assert value.item() == pytest.approx(math.exp(20) - 21, rel=1e-6)
    assert logp.grad is not None and logp.grad.isfinite().all()


def test_group_kl_is_the_mean_over_tokens_then_over_responses() -> None:
    kl = torch.tensor([[[1.0, 3.0, 0.0], [5.0, 0.0, 0.0], [9.0, 9.0, 9.0]]])
    tokens = torch.tensor([[[True, True, False], [True, False, False], [True, True, True]]])
    responses = torch.tensor([[True, True, False]])
    assert group_kl(kl, tokens, responses).tolist() == [(2.0 + 5.0) / 2]


def test_padding_changes_neither_loss_nor_gradient() -> None:
    rho, rewards = random_groups(1, 3)
    padded_rewards = torch.cat((rewards, torch.full((1, 2), 99.0, dtype=torch.float64)), 1)
    present = torch.tensor([[True, True, True, False, False]])
    losses = []
    for values, reward, mask in ((rho, rewards, None), (torch.nn.functional.pad(rho, (0, 2)), padded_rewards, present)):
        values = values.clone().requires_grad_()
        loss = reg_grpo(made(values, reward, 0.4, mask), settings(std_floor=0.4)).sum()
        loss.backward()
        assert values.grad is not None
        losses.append((loss.item(), values.grad[0, :3].tolist()))
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-12)
    assert losses[0][1] == pytest.approx(losses[1][1], rel=1e-12)
