"""Checkpoints inside a round: a version in the store, named by a small object under the ledger's key for this work.

A new one is complete before it is named, and named before the one before it is deleted: a kill at any time leaves a
checkpoint, and what it leaves besides is still named, and deleted with the next.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.shared.schemas import ArtifactRef, Record
from components.shared.store import Store

_POSITION, _NAME = "position.json", "checkpoint.json"


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
        before = _named(store, key)
        ref = store.put(folder, "state")
        store.write_object(f"work/{key}/{position.next_step:08d}/{_NAME}", ref.model_dump_json().encode())
        shutil.rmtree(folder, ignore_errors=True)
        for name, old in before.items():
            if old.digest != ref.digest:
                store.delete_objects(f"state/{old.digest}")
                store.delete_objects(name)


def find_checkpoint(store: Store, key: str) -> tuple[Path, Position] | None:
    """A folder with the newest checkpoint of the work `key`, and its position; None if there is none."""
    named = _named(store, key)
    if not named:
        return None
    folder = store.get(named[max(named)])
    return folder, Position.model_validate_json((folder / _POSITION).read_text())


def drop_checkpoint(store: Store, key: str) -> None:
    """Delete the checkpoints of finished work, their names first: a rerun would look for what they name."""
    named = _named(store, key)
    store.delete_objects(f"work/{key}")
    for ref in named.values():
        store.delete_objects(f"state/{ref.digest}")


def _named(store: Store, key: str) -> dict[str, ArtifactRef]:
    """The checkpoints by the folder of the object that names them, the newest last in order."""
    names = [name for name in store.list_objects(f"work/{key}") if name.endswith(f"/{_NAME}")]
    found = {name.removesuffix(f"/{_NAME}"): store.read_object(name) for name in names}
    return {name: ArtifactRef.model_validate_json(raw) for name, raw in found.items() if raw}
