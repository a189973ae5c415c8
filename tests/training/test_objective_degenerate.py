"""What every objective is where its formula is not defined, or says nothing: no NaN, and no pull that nobody asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from components.training.advantages import informative, leave_one_out, normalised
from components.training.loss import GroupLosses, group_losses
from components.training.objectives import OBJECTIVES
from components.training.objectives.inputs import LossInputs
from components.training.settings import TrainingSettings

ALL = [TrainingSettings(objective=name) for name in OBJECTIVES] + [
    TrainingSettings(objective="grpo", epsilon=0.0),
    TrainingSettings(objective="grpo", loss_type="bnpo"),
    TrainingSettings(objective="grpo", loss_type="dapo"),
    TrainingSettings(objective="rloo", epsilon=0.0),
]
every_objective = pytest.mark.parametrize("settings", ALL, ids=lambda s: f"{s.objective}-{s.loss_type}-{s.epsilon:g}")


def one_group(rho: Tensor, rewards: Tensor, settings: TrainingSettings, responses: Tensor | None = None) -> LossInputs:
    """A group whose responses have two tokens each, the first of which has the whole log-ratio."""
    taking_part = torch.ones(1, len(rho), dtype=torch.bool) if responses is None else responses[None]
    old = torch.full((1, len(rho), 2), -1.5, dtype=torch.float64)
    logprobs = (old + torch.stack((rho, torch.zeros_like(rho)), -1)).detach().requires_grad_()
    return LossInputs(
        logprobs=logprobs,
        old_logprobs=old,
        ref_logprobs=old,
        tokens=torch.ones_like(old, dtype=torch.bool),
        responses=taking_part,
        rewards=rewards[None],
        advantages=normalised(rewards[None], taking_part, settings.std_floor),
        informative=informative(rewards[None], taking_part),
        tokens_per_group=max(2.0 * taking_part.sum().item(), 1.0),
    )


def with_gradient(inputs: LossInputs, settings: TrainingSettings) -> tuple[GroupLosses, Tensor]:
    losses = group_losses(inputs, settings)
    (gradient,) = torch.autograd.grad(losses.objective.sum(), inputs.logprobs)
    return losses, gradient


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


MIXED = numbers(0.0, 2.0, 1.0, 1.0)


@every_objective
def test_at_unchanged_weights_the_gradient_is_finite_and_raises_the_better_response(settings: TrainingSettings) -> None:
    losses, gradient = with_gradient(one_group(torch.zeros(4), MIXED, settings), settings)
    assert losses.objective.isfinite().all() and gradient.isfinite().all()
    per_response = gradient.sum(-1)[0]
    assert per_response[1] < 0 and per_response[1] < per_response[0]  # descent raises the best response most
    assert per_response[1] == per_response.min() and per_response[0] == per_response.max()


@every_objective
def test_rewards_that_are_equal_but_for_rounding_give_no_preference(settings: TrainingSettings) -> None:
    # a floor as small as rounding is where a division by the rewards' std would blow it up to advantages of +-1
    if "std_floor" in OBJECTIVES[settings.objective].settings:
        settings = settings.model_copy(update={"std_floor": 1e-12})
    inputs = one_group(numbers(0.3, -0.2, 0.0, 0.5), numbers(1.0, 1.0 + 1e-9, 1.0, 1.0 - 1e-9), settings)
    losses, gradient = with_gradient(inputs, settings)
    if settings.objective in ("reg_grpo", "grpo", "rloo", "dpo", "online_dpo"):
        assert losses.objective.item() == 0.0 and gradient.abs().max().item() == 0.0
    elif settings.objective == "reinforce":  # no baseline: -R / G for every token
        assert gradient.flatten().tolist() == pytest.approx([-1 / 4] * 8, rel=1e-6)
    else:  # log-ratios are regressed by 0, or by their own mean: towards pi_old's relative probabilities
        rho = numbers(0.3, -0.2, 0.0, 0.5)
        target = rho.mean() if settings.objective == "rebel" else 0.0
        factor = 4 / 3 if settings.objective == "rebel" else 2 / 4  # 2 * var with G - 1 = 3, and the mean of squares
        assert gradient[0, :, 0].tolist() == pytest.approx((factor * (rho - target)).tolist(), rel=1e-6)


@every_objective
def test_a_group_that_shrinks_below_the_smallest_leaves_the_objective_but_keeps_its_kl(
    settings: TrainingSettings,
) -> None:
    left = OBJECTIVES[settings.objective].smallest_group - 1
    for count in range(left + 1):
        responses = torch.arange(4) < count
        inputs = one_group(numbers(0.3, -0.2, 0.0, 0.5), MIXED, settings, responses)
        losses, gradient = with_gradient(inputs, settings)
        assert losses.objective.item() == 0.0 and gradient.abs().max().item() == 0.0
        assert losses.kl is not None and losses.loss.isfinite().all()
        assert (losses.kl.item() > 0) == (count > 0)


@every_objective
def test_an_empty_response_and_one_that_is_left_out_are_as_if_they_were_not_there(settings: TrainingSettings) -> None:
    rho, rewards = numbers(0.3, -0.2, 0.1, 0.5), MIXED
    alone, expected = with_gradient(one_group(rho[:3], rewards[:3], settings), settings)
    responses = torch.tensor([True, True, True, False])
    inputs = one_group(rho, rewards, settings, responses)
    empty = replace(inputs, tokens=inputs.tokens & responses[:, None])
    broken = inputs.logprobs.detach().clone()
    broken[0, 3] = -torch.inf  # a truncated response that pi_theta holds for impossible
    for given in (inputs, empty, replace(inputs, logprobs=broken.requires_grad_())):
        losses, gradient = with_gradient(given, settings)
        assert losses.loss.item() == pytest.approx(alone.loss.item(), rel=1e-12)
        assert gradient[0, :3].flatten().tolist() == pytest.approx(expected[0].flatten().tolist(), rel=1e-12)
        assert gradient[0, 3].tolist() == [0.0, 0.0]


@every_objective
@pytest.mark.parametrize("infinite", [torch.inf, -torch.inf])
def test_an_infinite_log_ratio_is_bounded_or_makes_the_loss_show_it(
    settings: TrainingSettings, infinite: float
) -> None:
    for response in range(4):
        rho = numbers(0.3, -0.2, 0.1, 0.5)
        rho[response] = infinite
        losses, gradient = with_gradient(one_group(rho, MIXED, settings), settings)
        if settings.objective in ("grpo", "rloo"):  # the ratio is constant beyond e^20
            assert losses.objective.isfinite().all()
        if settings.objective in ("reg_grpo", "rebel", "reward_regression", "reinforce"):
            assert not losses.objective.isfinite().all()  # the step is skipped
        # never a number that hides a gradient which is none
        assert not losses.objective.isfinite().all() or gradient.isfinite().all()


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e3, 1e6])
@every_objective
def test_in_float32_no_scale_of_log_ratios_gives_nan(settings: TrainingSettings, scale: float) -> None:
    inputs = one_group(scale * numbers(1.0, -1.0, 0.5, 2.0), MIXED, settings)
    given = replace(
        inputs,
        logprobs=inputs.logprobs.detach().float().requires_grad_(),
        old_logprobs=inputs.old_logprobs.float(),
        ref_logprobs=inputs.old_logprobs.float(),
        rewards=inputs.rewards.float(),
        advantages=inputs.advantages.float(),
    )
    losses, gradient = with_gradient(given, settings)
    assert losses.loss.isfinite().all() and gradient.isfinite().all()


def test_leave_one_out_is_the_reward_minus_the_others_mean() -> None:
    rewards = torch.tensor([[1.0, 2.0, 6.0, 99.0], [5.0, 1.0, 1.0, 1.0]])
    responses = torch.tensor([[True, True, True, False], [True, False, False, False]])
    # by hand: 1 - (2 + 6) / 2, 2 - (1 + 6) / 2, 6 - (1 + 2) / 2
    assert leave_one_out(rewards, responses).tolist() == [[-3.0, -1.5, 4.5, 0.0], [0.0, 0.0, 0.0, 0.0]]
