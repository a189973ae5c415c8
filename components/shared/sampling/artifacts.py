"""The files by which the steps of a round hand samples on: difficulty, augmentation, groups, and the replay buffer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from components.shared.groups import groups_from_parquet
from components.shared.ledger import Outputs
from components.shared.schemas import ArtifactRef, Augmentation, Difficulty, Group, Kind, Name, Record
from components.shared.store import Store

DIFFICULTY, AUGMENTATION, GROUPS, BUFFER = "difficulty.jsonl", "augmentation.jsonl", "groups.parquet", "buffer.jsonl"


class AugmentedSample(Record):
    """One line of the augmentation artifact."""

    sample_id: Name
    augmentation: Augmentation


class BufferEntry(Record):
    """One sample in the replay buffer, with the mean normalised reward of its un-augmented group."""

    sample_id: Name
    round: int
    mean_reward: float


def to_lines(records: Iterable[Record]) -> bytes:
    """One JSON object a line."""
    return "".join(record.model_dump_json() + "\n" for record in records).encode()


def read_difficulty(folder: Path) -> list[Difficulty]:
    """The samples of a round in its order."""
    return [Difficulty.model_validate_json(line) for line in (folder / DIFFICULTY).read_text().splitlines()]


def read_augmentation(folder: Path) -> list[AugmentedSample]:
    """What is done to each sample of a round, in its order."""
    return [AugmentedSample.model_validate_json(line) for line in (folder / AUGMENTATION).read_text().splitlines()]


def read_groups(folder: Path) -> list[Group]:
    """The groups of an artifact that has some, in its order."""
    return groups_from_parquet((folder / GROUPS).read_bytes())


def read_buffer(folder: Path) -> list[BufferEntry]:
    """The replay buffer, oldest first. A buffer without the file is empty."""
    path = folder / BUFFER
    return [BufferEntry.model_validate_json(line) for line in path.read_text().splitlines()] if path.is_file() else []


def put_files(
    store: Store, kind: Kind, files: Mapping[str, bytes], metadata: dict[str, str | int | float | bool] | None = None
) -> ArtifactRef:
    """Store files by name as one version."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "version"
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return store.put(folder, kind, metadata)


def stop_reason(state: ArtifactRef) -> str:
    """Why the run's rounds have come to an end; empty while they have not."""
    return str(state.metadata.get("stop_reason", ""))


def skipped(reason: str, artifacts: Mapping[str, ArtifactRef]) -> Outputs:
    """What a step leaves that did nothing because the rounds have come to an end."""
    return Outputs(artifacts=dict(artifacts), results={"skipped": reason})


def check_same_order(named: Mapping[str, Sequence[str]]) -> None:
    """Raise ValueError unless all artifacts, by name, list the same sample ids in the same order."""
    (first_name, first), *others = named.items()
    for name, ids in others:
        if list(ids) != list(first):
            raise ValueError(f"{name} and {first_name} are of different rounds: their sample ids are not the same")
