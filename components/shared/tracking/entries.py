"""What is to be written into a run of MLflow, as records: they can wait, and sending one twice changes nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from components.shared.context import StepContext
from components.shared.schemas import ArtifactRef, Record
from components.shared.tracking.names import is_number, legal_name

PIPELINE = "pipeline"  # the step of the pipeline run's own run


class Value(Record):
    """One value of a metric. `time` in ms is set when it is made: MLflow keeps values that are equal in all four once."""

    name: str
    value: float
    step: int
    time: int


class Entry(Record):
    """What one run of MLflow gets: the nested run of a step in `round`, or (PIPELINE) the pipeline run's own.

    `status` is RUNNING, or how the run ended; empty leaves it as it is. Times are in ms since 1970. `datasets` are named by
    what they were to the step, `files` are artifacts whose files are attached below a folder.
    """

    step: str
    round: int = 0
    status: str = ""
    began: int = 0
    ended: int = 0
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    metrics: tuple[Value, ...] = ()
    datasets: tuple[tuple[str, ArtifactRef], ...] = ()
    files: tuple[tuple[ArtifactRef, str], ...] = ()


class Packet(Record):
    """Entries that were made together, and the task that they are from."""

    context: StepContext
    entries: tuple[Entry, ...]


def now() -> int:
    """The time in ms since 1970."""
    return int(time.time() * 1000)


def values(rows: Sequence[Mapping[str, Any]], step_key: str = "step") -> tuple[list[Value], list[str]]:
    """Rows of numbers as metrics, each at its row's `step_key`, and the names of those that were not finite.

    What is no number is left out, and so is what is not finite. Of several values of one name and step the first counts.
    """
    found: dict[tuple[str, int], float] = {}
    infinite: set[str] = set()
    for row in rows:
        for name, value in row.items():
            if name == step_key or not is_number(value):
                continue
            if math.isfinite(value):
                found.setdefault((legal_name(name), int(row[step_key])), float(value))
            else:
                infinite.add(name)
    made = now()
    return [Value(name=n, value=v, step=s, time=made) for (n, s), v in found.items()], sorted(infinite)
