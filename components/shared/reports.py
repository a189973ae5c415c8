"""What a step tells the report: its plain results, its artifacts' digests, and the seconds it took."""

from __future__ import annotations

from typing import Any

from components.shared.ledger import Outputs
from components.shared.schemas import Record


class StepReport(Record):
    """What one execution of a step reported. `round` is 0 outside rounds. The seconds are without engine start-up."""

    step: str
    round: int
    results: dict[str, Any]
    digests: dict[str, str]  # content digests of the step's artifacts, by name
    seconds: float
    startup_seconds: float


def step_report(step: str, round_index: int, outputs: Outputs) -> StepReport:
    """The report of a step's outputs."""
    digests = {name: ref.digest for name, ref in outputs.artifacts.items()}
    return StepReport(
        step=step, round=round_index, digests=digests, **outputs.model_dump(mode="json", exclude={"artifacts"})
    )
