"""What training must not change: the frozen tensors' bytes in the policy that it writes, compared with the input's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from components.shared.files import sha256_bytes
from components.training.policy import shards, write_policy


def write_trained(source: Path, target: Path, names: Mapping[str, str], trained: Mapping[str, Tensor]) -> int:
    """`write_policy`, and then proof that it changed the `trained` weights alone. Returns how many tensors are unchanged.

    Raises RuntimeError, naming the tensors, if a frozen one differs in a bit, and ValueError as `write_policy` does.
    """
    write_policy(source, target, names, trained)
    frozen = {tensor for tensor, name in names.items() if name not in trained}
    before, after = tensor_digests(source, frozen), tensor_digests(target, frozen)
    if changed := sorted(tensor for tensor in frozen if before.get(tensor) != after.get(tensor)):
        raise RuntimeError(
            f"{target}: {len(changed)} frozen tensors are not what they were in {source}, among them {changed[:5]}: the"
            " policy was not handed on; check memory and disk, and run the step again"
        )
    return len(frozen)


def tensor_digests(folder: Path, tensors: Collection[str]) -> dict[str, str]:
    """SHA-256 over type, shape and bytes of each of the `tensors` that the policy's files hold, by name."""
    found = {}
    for shard in shards(folder):
        with safe_open(shard, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                if name in tensors:
                    value = file.get_tensor(name)
                    raw = value.contiguous().flatten().view(torch.uint8).numpy()
                    found[name] = sha256_bytes(f"{value.dtype} {tuple(value.shape)}".encode(), memoryview(raw))
    return found
