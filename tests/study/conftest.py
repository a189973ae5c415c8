"""The study trains in its own process: its process group must not outlive its tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def _no_process_group_is_left() -> Iterator[None]:
    yield
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
