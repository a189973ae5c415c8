"""The learning rate as a function of the run's optimizer step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from components.training.settings import TrainingSettings


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """The rate of optimizer step `step`, counted from 0 over all rounds.

    Linear warm-up from learning_rate / warmup_steps; then constant, or half a cosine that reaches 0 at `max_steps`.
    """
    peak, warmup = settings.learning_rate, settings.warmup_steps
    if settings.lr_scheduler_type == "constant":
        return peak
    if step < warmup:
        return peak * (step + 1) / warmup
    if settings.lr_scheduler_type == "constant_with_warmup":
        return peak
    part = min(1.0, (step - warmup) / (settings.max_steps - warmup))
    return peak * (1 + math.cos(math.pi * part)) / 2
