"""Checkpoints inside a round: a version in the store, named by a small object under the ledger's key for this work."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.shared.schemas import ArtifactRef, Record
from components.shared.store import Store

_POSITION = "position.json"


class Position(Record):
    """Where in the round training is, and what was measured until then."""

    next_step: int = 0  # of the round
    optimizer_steps: int  # Adam's count, over all rounds
    num_tokens: int = 0  # of the round, packed, in forward passes with gradient
    skipped_steps: int = 0
    noise: float | None = 0.0  # std(rho) at unchanged weights
    metrics: tuple[dict[str, float | None], ...] = ()


def write_checkpoint(
    store: Store, key: str, folder: Path, parameters: Mapping[str, Any], position: Position, *, keep: bool
) -> None:
    """Store a checkpoint and drop the one before it. Every rank must call it; the one with `keep` writes."""
    from components.training.tensors import save_masters, save_moments
    from components.training.zero import gathered_masters

    masters = gathered_masters(parameters, keep=keep)
    if keep:
        folder.mkdir()
        save_masters(masters, folder)
    if position.optimizer_steps:  # without an applied step there are none
        save_moments(folder, parameters, keep=keep)
    if keep:
        (folder / _POSITION).write_text(position.model_dump_json())
        before = _newest(store, key)
        ref = store.put(folder, "state")
        store.write_object(_pointer(key), ref.model_dump_json().encode())
        shutil.rmtree(folder, ignore_errors=True)
        if before is not None and before.digest != ref.digest:
            store.delete_objects(f"state/{before.digest}")


def find_checkpoint(store: Store, key: str) -> tuple[Path, Position] | None:
    """A folder with the newest checkpoint of the work `key`, and its position; None if there is none."""
    ref = _newest(store, key)
    if ref is None:
        return None
    folder = store.get(ref)
    return folder, Position.model_validate_json((folder / _POSITION).read_text())


def drop_checkpoint(store: Store, key: str) -> None:
    """Delete the checkpoint of finished work, the pointer first."""
    ref = _newest(store, key)
    if ref is not None:
        store.delete_objects(f"work/{key}")
        store.delete_objects(f"state/{ref.digest}")


def _pointer(key: str) -> str:
    return f"work/{key}/checkpoint.json"


def _newest(store: Store, key: str) -> ArtifactRef | None:
    raw = store.read_object(_pointer(key))
    return ArtifactRef.model_validate_json(raw) if raw else None
