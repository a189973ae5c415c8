"""A tiny random Qwen2.5-VL with its real processor, and the training step's inputs in a store."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.shared.context import StepContext
from tests.training_fixtures import ANSWERS, HINT, stored_inputs


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


@pytest.fixture
def inputs(tmp_path: Path, policy_folder: Path) -> Any:
    """A store's context and the training step's inputs: 6 groups of 4 responses."""
    context = StepContext(store=str(tmp_path / "store"), seed=3, round=1)
    refs = stored_inputs(context.open_store(), tmp_path / "made", policy_folder, 6)
    return SimpleNamespace(context=context, refs=refs)
