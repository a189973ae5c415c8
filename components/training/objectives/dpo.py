"""DPO (Rafailov et al., arXiv 2305.18290, equation 7), on the reference's samples or, as online DPO, on pi_old's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from components.training.advantages import TOLERANCE, masked_mean
from components.training.objectives.inputs import LossInputs, token_log_ratios
from components.training.settings import TrainingSettings


def dpo(inputs: LossInputs, settings: TrainingSettings) -> Float[Tensor, " groups"]:
    """mean over pairs with R_i > R_j of -log sigmoid(beta (h_i - h_j)), h = log pi_theta(y | x) - log pi_ref(y | x).

    Every pair of a group's responses whose rewards differ by more than the tolerance is one preference; a group without
    any gives 0. Online DPO (Guo et al., arXiv 2402.04792) is the same function of pi_old's samples.
    """
    assert inputs.ref_logprobs is not None  # settings see to it
    h = token_log_ratios(inputs, inputs.ref_logprobs).sum(-1)
    better = inputs.rewards[:, :, None] - inputs.rewards[:, None, :] > TOLERANCE
    pairs = better & inputs.responses[:, :, None] & inputs.responses[:, None, :]
    margins = torch.where(pairs, h[:, :, None] - h[:, None, :], 0)
    return masked_mean(-F.logsigmoid(settings.beta * margins).flatten(1), pairs.flatten(1))
