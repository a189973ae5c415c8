"""The supervised arm: the pipeline's own warm-up, a seeded batch of targets an optimizer step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from components.shared.context import generator
from components.shared.dataset import DatasetReader
from components.shared.schemas import Group
from components.training.settings import TrainingSettings
from components.training.targets import make_targets
from components.training.warmup_settings import SupervisedSettings, WarmupSettings, supervised
from tests.benchmarks.study.trainer import Trainer


def one_batch(training: TrainingSettings, size: int) -> SupervisedSettings:
    """The trainer's settings: each call is one optimizer step over `size` targets, at a constant learning rate."""
    warmup = WarmupSettings(
        num_train_epochs=1,
        learning_rate=training.learning_rate,
        lr_scheduler_type="constant",
        train_batch_size=size,
    )
    return supervised(warmup, training, size)


def fine_tune(trainer: Trainer, reader: DatasetReader, steps: int, size: int) -> list[float | None]:
    """`steps` optimizer steps of `size` targets each, epoch after epoch in a seeded order. Returns every step's loss."""
    targets = make_targets(
        reader, trainer.processor, "response", WarmupSettings().max_completion_length, lambda: None
    ).groups
    order = _order(targets, trainer.seed)
    return [trainer.train([next(order) for _ in range(size)], reader, step)[0]["loss"] for step in range(steps)]


def _order(targets: Sequence[Group], seed: int) -> Iterator[Group]:
    epoch = 0
    while True:
        yield from (targets[index] for index in generator(seed, epoch, "", "sft order").permutation(len(targets)))
        epoch += 1
