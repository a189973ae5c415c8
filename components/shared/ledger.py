"""What makes a rerun continue: finished work is found by its inputs, and a killed step resumes from its last chunk.

A key is a digest over the step, its inputs' content digests, its settings, the seed and the code's version. Under it the
store keeps the step's outputs (once it is finished) and, until then, its chunks.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import BaseModel

import components
from components.shared.engines import loaded_engines
from components.shared.files import sha256_bytes, sha256_file
from components.shared.schemas import ArtifactRef
from components.shared.store import Store


@functools.cache
def code_version() -> str:
    """Digest of this project's step code: every .py file of the `components` package, by path and content."""
    root = Path(components.__file__).parent
    files = sorted(root.rglob("*.py"))
    return sha256_bytes(*(f"{path.relative_to(root).as_posix()}\0{sha256_file(path)}\n".encode() for path in files))


class Outputs(BaseModel):
    """What a finished step left: artifacts by name, plain results, and the seconds it took (engine start-up apart)."""

    artifacts: dict[str, ArtifactRef] = {}
    results: dict[str, object] = {}
    seconds: float = 0.0
    startup_seconds: float = 0.0


class Ledger:
    """The record of finished and half-finished work in a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def key(self, step: str, inputs: Mapping[str, str], settings: Mapping[str, object], seed: int) -> str:
        """The key of a piece of work. `inputs` are content digests by name, `settings` anything JSON can hold."""
        parts = {"step": step, "inputs": dict(inputs), "settings": dict(settings), "seed": seed, "code": code_version()}
        return f"{step}-{sha256_bytes(json.dumps(parts, sort_keys=True).encode())[:32]}"

    def finished(self, key: str) -> Outputs | None:
        """The outputs recorded under `key`, None if the work is not finished."""
        raw = self.store.read_object(f"ledger/{key}.json")
        return Outputs.model_validate_json(raw) if raw else None

    def finish(self, key: str, outputs: Outputs) -> Outputs:
        """Record the work as finished, with the versions of the engines that this process used, and drop its chunks."""
        known = outputs.results.get("engines")
        engines = {**loaded_engines(), **(known if isinstance(known, dict) else {})}
        outputs = outputs.model_copy(update={"results": {**outputs.results, "engines": engines}})
        self.store.write_object(f"ledger/{key}.json", outputs.model_dump_json(indent=1).encode())
        self.store.delete_objects(f"work/{key}")
        return outputs

    def chunk(self, key: str, name: str, make: Callable[[], bytes]) -> bytes:
        """The bytes of one chunk of unfinished work: as stored by an earlier try, else made now and stored."""
        found = self.store.read_object(f"work/{key}/{name}")
        if found is None:
            found = make()
            self.store.write_object(f"work/{key}/{name}", found)
        return found
