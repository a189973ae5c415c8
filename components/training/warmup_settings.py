"""The settings of the supervised warm-up, and what they become for the workers. Names are TRL's and transformers'."""

from __future__ import annotations

import math
from typing import Literal

from components.shared.settings import StepSettings, setting
from components.training.settings import TrainingSettings

Target = Literal["response", "answer", "response_or_answer"]

# What training's own settings say of rounds. The rest, about the optimizer, memory and machines, holds for both.
_OF_ROUNDS = (
    "objective", "num_iterations", "steps_per_generation", "std_floor", "epsilon", "epsilon_high", "loss_type", "eta",
    "mask_truncated_completions", "beta", "kl_estimator", "kl_reference", "learning_rate", "lr_scheduler_type",
    "warmup_steps", "max_steps", "stop_kl", "stop_entropy", "stop_reward_drop", "stop_reward_patience",
)  # fmt: skip


class WarmupSettings(StepSettings):
    """How the base model is fine-tuned on given responses before the first round."""

    num_train_epochs: int = setting(
        0, "Passes over the train split's targets before the first round; 0: no warm-up.", unit="passes", ge=0,
        compiled=True,
    )  # fmt: skip
    target: Target = setting(
        "response_or_answer",
        "What is learnt of a sample: its reference response, its answer in the prompt's format with nothing thought, or"
        " the response where there is one and else the answer.",
    )
    learning_rate: float = setting(1e-5, "Peak learning rate of AdamW.", gt=0)
    lr_scheduler_type: Literal["constant", "constant_with_warmup", "cosine"] = setting(
        "cosine", "Learning rate over the warm-up stage."
    )
    warmup_ratio: float = setting(
        0.03, "Share of the steps in which the learning rate rises, unless it is constant.", ge=0, lt=1
    )
    train_batch_size: int = setting(32, "Samples of one optimizer step, on all ranks together.", unit="samples", ge=1)
    max_completion_length: int = setting(
        1024, "Longer targets are left out, and counted.", unit="tokens", ge=1
    )  # fmt: skip


class SupervisedSettings(TrainingSettings):
    """What the workers of a warm-up get."""

    objective: Literal["sft"] = "sft"  # type: ignore[assignment]  # one that no round can have


def supervised(warmup: WarmupSettings, training: TrainingSettings, samples: int) -> SupervisedSettings:
    """The workers' settings for `samples` targets: an epoch is a pass, a batch an optimizer step."""
    batches = -(-samples // warmup.train_batch_size)
    steps = warmup.num_train_epochs * batches
    return SupervisedSettings(
        **training.model_dump(exclude=set(_OF_ROUNDS)),
        beta=0.0,
        num_iterations=warmup.num_train_epochs,
        steps_per_generation=batches,
        learning_rate=warmup.learning_rate,
        lr_scheduler_type=warmup.lr_scheduler_type,
        warmup_steps=math.floor(warmup.warmup_ratio * steps),
        max_steps=steps,
    )
