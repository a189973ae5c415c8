"""The optimizer steps of a round: losses over whole groups, gradients by DeepSpeed, and what was measured."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from components.training.advantages import masked_std
from components.training.checkpoint import Position
from components.training.distributed import Place
from components.training.loss import group_losses
from components.training.metrics import StepMetrics
from components.training.objectives.inputs import LossInputs, log_ratios
from components.training.prepare import Prepared
from components.training.schedule import learning_rate
from components.training.settings import TrainingSettings
from components.training.state import Progress

FLOOR_OVER_NOISE = 3.0  # std_floor must be this many times std(rho) at unchanged weights


@dataclass(frozen=True, eq=False)
class Scored:
    """A micro-batch with its log-probs under pi_old and, if there is one, pi_ref; on the CPU."""

    batch: Prepared
    old_logprobs: Float[Tensor, "groups responses tokens"]
    ref_logprobs: Float[Tensor, "groups responses tokens"] | None


class OptimizerSteps:
    """Makes the round's steps one by one. `position` is how far it is; every rank must call `step` equally often."""

    def __init__(
        self,
        engine: Any,
        minibatches: Sequence[Sequence[Scored]],
        groups: Sequence[int],
        tokens: Sequence[int],
        settings: TrainingSettings,
        place: Place,
        before: Progress,
        position: Position,
    ) -> None:
        """`minibatches` are this rank's; `groups` and `tokens` count each one's groups, and their tokens that take part, on
        all ranks; `before` is the round's start.
        """
        self.engine, self.minibatches, self.groups, self.tokens = engine, minibatches, groups, tokens
        self.settings, self.place, self.before, self.position = settings, place, before, position
        self.total = settings.num_iterations * len(minibatches)

    def step(self) -> None:
        """Make the next optimizer step. One whose loss or gradient is not finite changes nothing and is counted."""
        started = time.monotonic()
        number = self.position.next_step
        which = number % len(self.minibatches)
        rate = learning_rate(self.before.global_step + number, self.settings)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        metrics, noise = StepMetrics(self.settings), torch.zeros((), device=self.place.device)
        for scored in self.minibatches[which]:
            last = scored is self.minibatches[which][-1]
            self.engine.set_gradient_accumulation_boundary(last)
            loss, rho_std = self._loss(scored, which, metrics)
            noise = torch.maximum(noise, rho_std)
            if last and number == 0:
                self._check_floor(noise)
            self.engine.backward(loss)
        self.engine.step()
        with_kl = self.minibatches[which][0].ref_logprobs is not None
        measured, tokens = metrics.result(self.place.device, with_kl=with_kl)
        self._advance(measured, tokens, rate, float(noise), started)

    def _loss(self, scored: Scored, which: int, metrics: StepMetrics) -> tuple[Tensor, Tensor]:
        """The loss to go backward from, and the largest std(rho) of a group."""
        micro, device = scored.batch, self.place.device
        logprobs, entropies = self.engine(*micro.model_inputs(device))
        inputs = LossInputs(
            logprobs=logprobs,
            old_logprobs=scored.old_logprobs.to(device),
            ref_logprobs=None if scored.ref_logprobs is None else scored.ref_logprobs.to(device),
            tokens=micro.packed.tokens.to(device),
            responses=micro.responses.to(device),
            rewards=micro.rewards.to(device),
            advantages=micro.advantages.to(device),
            informative=micro.informative.to(device),
            tokens_per_group=max(self.tokens[which], 1) / self.groups[which],
        )
        losses = group_losses(inputs, self.settings)
        weights = micro.weights.to(device)
        metrics.add(
            inputs,
            losses,
            weights=weights,
            truncated=micro.truncated.to(device),
            entropies=entropies,
            sampler_logprobs=micro.sampler_logprobs.to(device),
            packed_tokens=micro.packed_tokens,
        )
        # DeepSpeed takes the mean of the ranks' gradients; the loss is a mean over the groups of all of them
        share = self.place.world_size / self.groups[which]
        return (losses.loss * weights).sum() * share, masked_std(
            log_ratios(inputs).detach(), inputs.responses, 0.0
        ).max()

    def _check_floor(self, noise: Tensor) -> None:
        """Refuse a std_floor that log-ratios, where they are divided by it, reach at unchanged weights.

        `noise`: their largest std, on all ranks then.
        """
        torch.distributed.all_reduce(noise, torch.distributed.ReduceOp.MAX)
        if not self.settings.declared.normalises_log_ratios:
            return
        if float(noise) * FLOOR_OVER_NOISE > self.settings.std_floor:
            raise ValueError(
                f"std_floor {self.settings.std_floor:g} is below {FLOOR_OVER_NOISE:g} times the standard deviation of"
                f" the log-ratios at unchanged weights, {float(noise):.3g}: raise std_floor, or train in float32"
            )

    def _advance(
        self, measured: dict[str, float | None], tokens: int, rate: float, noise: float, started: float
    ) -> None:
        position, applied = self.position, self.engine.was_step_applied()
        record = {
            "step": self.before.global_step + position.next_step + 1,
            **measured,
            "grad_norm": float(self.engine.get_global_grad_norm()),
            "learning_rate": rate,
            "skipped": float(not applied),
            "step_time": time.monotonic() - started,
            "num_tokens": self.before.num_tokens + position.num_tokens + tokens,
        }
        self.position = Position(
            next_step=position.next_step + 1,
            optimizer_steps=position.optimizer_steps + applied,
            num_tokens=position.num_tokens + tokens,
            skipped_steps=position.skipped_steps + (not applied),
            noise=position.noise if position.next_step else _finite(noise),
            metrics=(*position.metrics, {name: _finite(value) for name, value in record.items()}),
        )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
