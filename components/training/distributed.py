"""The training processes of one round: which one this is, its device, and the group they form."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

RENDEZVOUS = "DEEPVIDEO_RENDEZVOUS"  # a file:// URI for a process on its own; launchers set MASTER_ADDR instead


@dataclass(frozen=True)
class Place:
    """This process among its peers. The one that `leads` writes what is written once."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0


def join() -> Place:
    """Join the processes that the launcher started, over NCCL on GPUs and gloo on CPUs."""
    import deepspeed

    # nothing of ours uses DeepSpeed's own kernels, and compiling one for CPU collectives takes a minute
    deepspeed.ops.__compatible_ops__ = {}
    rank, world_size, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    deepspeed.init_distributed(
        "nccl" if on_gpu else "gloo",
        init_method=os.environ.get(RENDEZVOUS),
        rank=rank,
        world_size=world_size,
        auto_mpi_discovery=False,
        verbose=False,
    )
    return Place(rank, world_size, device)
