"""One contestant on one point, in a process of its own: `python -m tests.benchmarks.race.worker SPEC`.

SPEC is a `Spec` as JSON. The process prepares, says so, and makes one step for each line on its standard input, which is the
number of bytes that the step may take. Answers are JSON, a line each.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch

from components.shared.processes import die_with_parent
from tests.benchmarks.race import contestants, memory
from tests.benchmarks.race.groups import made_group
from tests.benchmarks.race.models import text_model, vision_language_model
from tests.benchmarks.race.shapes import ModelShape, Point

OUT_OF_MEMORY = ("can't allocate memory", "bad_alloc", "could not create a memory", "out of memory")
CONTESTANTS = ("packed", "rows_in_a_batch", "rows_one_by_one", "trl_rows")


@dataclass(frozen=True)
class Spec:
    """What is run."""

    contestant: str
    shape: ModelShape
    point: Point

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def load(text: str) -> Spec:
        """From JSON."""
        fields = json.loads(text)
        return Spec(fields["contestant"], ModelShape(*fields["shape"]), Point(*fields["point"]))


def prepare(spec: Spec, folder: str) -> tuple[contestants.Step, Any]:
    """The contestant's step, and its model."""
    group = made_group(spec.shape, spec.point)
    if spec.contestant == "trl_rows":
        from tests.benchmarks.race.trl_rows import trl_rows

        model = text_model(spec.shape)
        return trl_rows(model, group, folder), model
    model = vision_language_model(spec.shape)
    return getattr(contestants, spec.contestant)(model, group), model


def measured(step: contestants.Step, model: Any, allowed: int) -> dict[str, Any]:
    """Make a step from gradients that are not there yet. Memory is what it took at most beyond what was resident before."""
    memory.settle()
    memory.allow(allowed)
    memory.reset_peak()
    before, started = memory.resident(), time.perf_counter()
    logprobs = step()
    seconds, peak = time.perf_counter() - started, memory.peak() - before
    squares = [parameter.grad.square().sum() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad(set_to_none=True)
    return {
        "seconds": seconds,
        "peak_bytes": peak,
        "gradient_norm": float(torch.stack(squares).sum().sqrt()),
        "logprobs": logprobs.tolist(),
    }


def main() -> None:
    """Serve steps until the standard input ends, or memory does."""
    die_with_parent()
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print; the channel is for answers

    def answer(content: dict[str, Any]) -> None:
        channel.write(json.dumps(content) + "\n")
        channel.flush()

    with tempfile.TemporaryDirectory() as folder:
        step, model = prepare(Spec.load(sys.argv[1]), folder)
        answer({"ready": True})
        for line in sys.stdin:
            try:
                answer(measured(step, model, int(line)))
            except (MemoryError, RuntimeError) as error:
                if not isinstance(error, MemoryError) and not any(words in str(error) for words in OUT_OF_MEMORY):
                    raise
                answer({"out_of_memory": str(error).splitlines()[0] if str(error) else "MemoryError"})
                return


if __name__ == "__main__":
    main()
