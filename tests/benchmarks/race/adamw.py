"""AdamW as mixed-precision training runs it: fp32 masters and moments beside weights of another type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn

BYTES = 12  # a weight: master and two moments; weight and gradient come on top


class MasterAdamW:
    """PyTorch's AdamW on fp32 masters, one parameter at a time: only one gradient is ever there in fp32."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float = 1e-6) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.masters = [parameter.detach().to(torch.float32, copy=True) for parameter in self.parameters]
        self.optimizers = [torch.optim.AdamW([master], lr=lr, fused=master.is_cuda) for master in self.masters]

    @torch.no_grad()
    def step(self) -> None:
        """Update masters and weights, and drop the gradients."""
        for parameter, master, optimizer in zip(self.parameters, self.masters, self.optimizers, strict=True):
            if parameter.grad is None:
                continue
            master.grad = parameter.grad.float()
            parameter.grad = None
            optimizer.step()
            master.grad = None
            parameter.copy_(master)
