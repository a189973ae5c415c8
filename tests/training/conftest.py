"""A tiny random Qwen2.5-VL with its real processor, and a process group of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training_fixtures import ANSWERS, HINT

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # before torch is loaded: spinning threads are slow beside other jobs


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy as `save_pretrained` writes it: 1.5 M random parameters in float32."""
    import torch

    from components.ingest.tiny_model.build import build_model, build_processor

    folder = tmp_path_factory.mktemp("policy") / "tiny"
    processor = build_processor([*ANSWERS, HINT, "Think inside, then answer with the letter of one option."])
    torch.manual_seed(0)
    model = build_model(processor)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """torch.distributed with this process alone."""
    import torch

    file = tmp_path_factory.mktemp("gloo") / "store"
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", world_size=1, rank=0)
    yield
    torch.distributed.destroy_process_group()
