"""A tiny random policy of each family with its real processor, and a process group of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.shared.families import FAMILIES
from tests.tiny_policies import write_policy_of
from tests.training_fixtures import ANSWERS, HINT

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # before torch is loaded: spinning threads are slow beside other jobs


@pytest.fixture(scope="session")
def policy_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny random policy of each family."""
    corpus = [*ANSWERS, HINT, "Think inside, then answer with the letter of one option."]
    folder = tmp_path_factory.mktemp("policy")
    return {family: write_policy_of(family, folder / family, corpus) for family in FAMILIES}


@pytest.fixture(scope="session")
def policy_folder(policy_folders: dict[str, Path]) -> Path:
    """The Qwen2.5-VL among them."""
    return policy_folders["qwen2_5_vl"]


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """torch.distributed with this process alone."""
    import torch

    file = tmp_path_factory.mktemp("gloo") / "store"
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", world_size=1, rank=0)
    yield
    torch.distributed.destroy_process_group()
