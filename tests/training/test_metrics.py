"""A step's metrics against hand-calculated values, and added up over micro-batches as if they were one."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from components.training.loss import group_losses
from components.training.metrics import StepMetrics
from components.training.objectives.inputs import LossInputs
from components.training.settings import TrainingSettings

pytestmark = pytest.mark.usefixtures("one_process")


RATIOS = [[[1.5, 1.1], [0.5, 1.0]], [[1.3, 0.7], [0.9, 1.25]]]  # pi_theta / pi_old of groups, responses, tokens
MISMATCH = [[[0.1, -0.3], [0.2, 0.0]], [[-0.05, 0.05], [0.4, 0.1]]]  # log pi_old - log-prob of the sampler


def two_groups() -> LossInputs:
    """Two groups of two responses; the last one has one token, all others have two."""
    tokens = torch.ones(2, 2, 2, dtype=torch.bool)
    tokens[1, 1, 1] = False
    old = torch.where(tokens, -1.0, 0.0)
    return LossInputs(
        logprobs=torch.where(tokens, old + torch.tensor(RATIOS).log(), 0),
        old_logprobs=old,
        ref_logprobs=torch.where(tokens, old - 0.5, 0),
        tokens=tokens,
        responses=torch.ones(2, 2, dtype=torch.bool),
        rewards=torch.tensor([[2.0, 1.0], [0.0, 1.0]]),
        advantages=torch.tensor([[1.0, -1.0], [-1.0, 1.0]]),
        informative=torch.tensor([True, True]),
        tokens_per_group=3.5,
    )


def measured(settings: TrainingSettings, size: int = 2) -> dict[str, float | None]:
    """The metrics of the two groups, `size` of them a micro-batch."""
    inputs, metrics = two_groups(), StepMetrics(settings)
    assert inputs.ref_logprobs is not None
    base = inputs.ref_logprobs if settings.objective == "dpo" else inputs.old_logprobs
    sampler = torch.where(inputs.tokens, base - torch.tensor(MISMATCH), 0)
    for first in range(0, 2, size):
        part = slice(first, first + size)
        tensors = {name: value[part] for name, value in vars(inputs).items() if isinstance(value, torch.Tensor)}
        given = replace(inputs, **tensors)
        metrics.add(
            given,
            group_losses(given, settings),
            weights=torch.ones(size),
            truncated=torch.tensor([[False, True], [False, False]])[part],
            entropies=torch.full((size, 2, 2), 0.25),
            sampler_logprobs=sampler[part],
            packed_tokens=5 * size,
        )
    result, packed = metrics.result(torch.device("cpu"), with_kl=True)
    assert packed == 10
    return result


def test_the_mismatch_of_sampler_and_trainer_is_measured_per_token_and_per_sequence() -> None:
    for objective in (
        "reg_grpo",
        "dpo",
    ):  # dpo's sampler was the reference: it is compared with the trainer's reference
        result = measured(TrainingSettings(objective=objective))
        # over the seven tokens: 0.1 + 0.3 + 0.2 + 0 + 0.05 + 0.05 + 0.4
        assert result["sampling/sampling_logp_difference/mean"] == pytest.approx(1.1 / 7, rel=1e-5)
        assert result["sampling/sampling_logp_difference/max"] == pytest.approx(0.4, rel=1e-5)
        # exp of the responses' sums: -0.2, 0.2, 0, 0.4
        ratios = [math.exp(-0.2), math.exp(0.2), 1.0, math.exp(0.4)]
        assert result["sampling/importance_sampling_ratio/mean"] == pytest.approx(sum(ratios) / 4, rel=1e-5)
        assert result["sampling/importance_sampling_ratio/min"] == pytest.approx(ratios[0], rel=1e-5)
        assert result["sampling/importance_sampling_ratio/max"] == pytest.approx(ratios[3], rel=1e-5)


def test_lengths_are_those_of_all_responses_and_of_the_terminated_ones() -> None:
    result = measured(TrainingSettings())
    assert result["completions/mean_length"] == 7 / 4
    assert (result["completions/min_length"], result["completions/max_length"]) == (1.0, 2.0)
    assert result["completions/mean_terminated_length"] == 5 / 3  # without the second response
    assert result["completions/clipped_ratio"] == 1 / 4


def test_clip_ratios_count_tokens_for_grpo_and_responses_for_rloo() -> None:
    # clip at 0.8 and 1.2. Above with A > 0: 1.5 (of 1.5, 1.1 and 0.9); below with A < 0: 0.5 and 0.7 (of 0.5, 1, 1.3, 0.7)
    grpo = measured(TrainingSettings(objective="grpo"))
    assert grpo["clip_ratio/high_mean"] == pytest.approx(1 / 7) and grpo["clip_ratio/low_mean"] == pytest.approx(2 / 7)
    assert grpo["clip_ratio/region_mean"] == pytest.approx(3 / 7)
    # of responses: 1.65 with A > 0, 0.5 with A < 0, 0.91 and 0.9
    rloo = measured(TrainingSettings(objective="rloo"))
    assert (rloo["clip_ratio/high_mean"], rloo["clip_ratio/low_mean"]) == (1 / 4, 1 / 4)
    for settings in (TrainingSettings(), TrainingSettings(objective="grpo", epsilon=0.0)):
        assert measured(settings)["clip_ratio/region_mean"] is None


def test_gradient_norms_of_objective_and_kl_are_those_of_the_steps_mean_loss() -> None:
    # reinforce: d/dlogp of the mean over 2 groups of -(1/2) sum_i R_i log p is -R_i / 4, at 2 tokens each, at 1 for the last
    # k1's penalty: beta / (2 groups * 2 responses * tokens of the response)
    result = measured(TrainingSettings(objective="reinforce", kl_estimator="k1", beta=0.8))
    assert result["logprob_grad_norm/objective"] == pytest.approx(math.sqrt(2 * 0.5**2 + 2 * 0.25**2 + 0.25**2))
    assert result["logprob_grad_norm/kl"] == pytest.approx(0.8 / 4 * math.sqrt(6 / 4 + 1))
    assert measured(TrainingSettings(objective="dpo"))["logprob_grad_norm/kl"] == 0.0


@pytest.mark.parametrize("objective", ["reg_grpo", "grpo", "rloo", "rebel", "dpo"])
def test_two_micro_batches_measure_what_one_does(objective: str) -> None:
    settings = TrainingSettings(objective=objective)
    whole, parts = measured(settings, 2), measured(settings, 1)
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        assert parts[name] == (None if value is None else pytest.approx(value, rel=1e-5)), name
