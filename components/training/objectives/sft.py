"""Supervised fine-tuning: the cross-entropy of given responses, the paper's SFT baseline (arXiv 2506.07464, table 1)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from components.training.objectives.inputs import LossInputs
from components.training.settings import TrainingSettings


def sft(inputs: LossInputs, settings: TrainingSettings) -> Float[Tensor, " groups"]:
    """-sum_t log pi_theta(y_t | x, y_<t) of a group's responses, over the mean number of tokens a group.

    Its mean over the groups of an optimizer step is the mean over all of their tokens, as in TRL's SFTTrainer.
    """
    return -torch.where(inputs.active, inputs.logprobs, 0).sum((1, 2)) / inputs.tokens_per_group
