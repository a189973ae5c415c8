"""What an optimizer step asks of its engine and reports, for objectives that want different things of a round.

The engine is a table of log-probs under plain SGD; DeepSpeed's own part is tested with whole rounds.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from components.training.advantages import informative, normalised
from components.training.checkpoint import Position
from components.training.distributed import Place
from components.training.objectives import OBJECTIVES
from components.training.optimizer_steps import OptimizerSteps, Scored
from components.training.settings import TrainingSettings
from components.training.state import Progress

pytestmark = pytest.mark.usefixtures("one_process")

REWARDS = torch.tensor([[0.0, 2.0, 1.0, 1.0], [1.0, 1.0, 0.0, 1.0]])


class Table:
    """An engine whose log-probs are its weights, one a token: SGD moves each by the learning rate times its gradient."""

    def __init__(self, start: torch.Tensor, rate: float) -> None:
        self.weights, self.rate, self.losses = start.clone().requires_grad_(), rate, list[float]()
        self.optimizer = SimpleNamespace(param_groups=[{}])

    def __call__(self, *_: object) -> tuple[torch.Tensor, torch.Tensor]:
        return self.weights * 1.0, torch.zeros_like(self.weights)

    def set_gradient_accumulation_boundary(self, last: bool) -> None:
        assert last

    def backward(self, loss: torch.Tensor) -> None:
        self.losses.append(loss.item())
        loss.backward()

    def step(self) -> None:
        assert self.weights.grad is not None
        with torch.no_grad():
            self.weights -= self.rate * self.weights.grad
        self.gradient, self.weights.grad = self.weights.grad, None

    def was_step_applied(self) -> bool:
        return True

    def get_global_grad_norm(self) -> float:
        return self.gradient.norm().item()


def steps(settings: TrainingSettings, noise: float = 0.0) -> tuple[OptimizerSteps, Any]:
    """One micro-batch of two groups; the engine's log-probs are `noise` off pi_old's at the start."""
    old = torch.full((2, 4, 3), -1.0)
    off = noise * torch.randn(old.shape, generator=torch.Generator().manual_seed(0))
    everyone = torch.ones(2, 4, dtype=torch.bool)
    batch: Any = SimpleNamespace(
        packed=SimpleNamespace(tokens=torch.ones(old.shape, dtype=torch.bool)),
        model_inputs=lambda device: (),
        weights=torch.ones(2),
        rewards=REWARDS,
        responses=everyone,
        truncated=~everyone,
        advantages=normalised(REWARDS, everyone, settings.std_floor),
        informative=informative(REWARDS, everyone),
        sampler_logprobs=old,
        packed_tokens=30,
    )
    engine, place = Table(old + off, rate=0.5), Place(rank=0, world_size=1, device=torch.device("cpu"))
    scored = [[Scored(batch, old, old - 0.1)]]
    made = OptimizerSteps(engine, scored, [2], [24], settings, place, Progress(), Position(optimizer_steps=0))
    return made, engine


@pytest.mark.parametrize("name", OBJECTIVES)
def test_steps_make_the_best_response_likelier_than_the_worst(name: str) -> None:
    made, engine = steps(TrainingSettings(objective=name, num_iterations=5))
    while made.position.next_step < made.total:
        made.step()
    likelihoods = engine.weights.sum(-1)
    assert likelihoods[0, 1] > likelihoods[0, 0] and (likelihoods[1, [0, 1, 3]] > likelihoods[1, 2]).all()
    first, *_, last = made.position.metrics
    assert first["loss"] == pytest.approx(engine.losses[0], rel=1e-6)
    assert first["advantage_rho_correlation"] is None and last["advantage_rho_correlation"] > 0.8
    assert first["logprob_grad_norm/objective"] > 0
    assert (first["logprob_grad_norm/kl"] > 0) == OBJECTIVES[name].kl_penalty
    assert all(row.keys() == first.keys() for row in made.position.metrics)


def test_without_a_penalty_the_objectives_gradient_is_all_of_it() -> None:
    made, _ = steps(TrainingSettings(objective="rebel", beta=0.0))
    made.step()
    (row,) = made.position.metrics
    assert row["grad_norm"] == pytest.approx(row["logprob_grad_norm/objective"], rel=1e-6)
    assert row["logprob_grad_norm/kl"] == 0.0


def test_noise_in_log_ratios_is_refused_only_where_they_are_divided_by_their_floor() -> None:
    for name in ("grpo", "rebel"):
        given = {"std_floor": 0.01} if name == "grpo" else {}
        made, _ = steps(TrainingSettings(objective=name, **given), noise=0.02)
        made.step()
        assert made.position.noise > 0.01
    made, _ = steps(TrainingSettings(std_floor=0.01), noise=0.02)
    with pytest.raises(ValueError, match="std_floor 0.01 is below 3 times"):
        made.step()
