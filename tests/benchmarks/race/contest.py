"""Run contestants on a point side by side: each in a new process of its own, taking turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from components.shared.processes import log_tail
from tests.benchmarks.race.equality import TOLERANCE
from tests.benchmarks.race.shapes import ModelShape, Point
from tests.benchmarks.race.worker import OUT_OF_MEMORY, Spec

RESERVE = 1 << 30  # bytes that a step leaves to the machine
ROOT = Path(__file__).parents[3]


class Result(NamedTuple):
    """A contestant on a point: its steps, in order, and what ended them early ("" if nothing did)."""

    seconds: list[float]
    peak_bytes: list[int]
    ended: str


class Worker:
    """A contestant's process. What it prints goes to a log below `folder`."""

    def __init__(self, spec: Spec, folder: Path) -> None:
        self.log = folder / f"{spec.contestant}.log"
        self.ended = ""
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.benchmarks.race.worker", spec.dump()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                env=environment(),
            )

    def ready(self) -> None:
        """Wait until it is prepared."""
        self._answer()

    def step(self) -> dict[str, Any] | None:
        """Make one step with the memory that is left on the machine; None if that was not enough."""
        assert self.process.stdin
        with suppress(BrokenPipeError):  # it was killed meanwhile: its exit code says so
            self.process.stdin.write(f"{psutil.virtual_memory().available - RESERVE}\n")
            self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()

    def _answer(self) -> dict[str, Any] | None:
        assert self.process.stdout
        if line := self.process.stdout.readline():
            answer: dict[str, Any] = json.loads(line)
            self.ended = answer.get("out_of_memory", "") and "out of memory"
        else:
            code, tail = self.process.wait(), log_tail(self.log)
            if code != -9 and not any(words in tail for words in OUT_OF_MEMORY):
                raise RuntimeError(f"{self.log.stem} ended with {code}:\n{tail}")
            self.ended = "out of memory"
        return None if self.ended else answer


def environment() -> dict[str, str]:
    """For our child processes: the repository importable."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def contest(
    contestants: Sequence[str],
    shape: ModelShape,
    point: Point,
    *,
    repetitions: int,
    folder: Path,
    may_start: Callable[[str], bool],
    done: Callable[[str, int, Result], None],
) -> dict[str, Result]:
    """Let the contestants take turns on the point, `repetitions` times. `may_start` says whether there is time for a step.

    `done` is told of each step: contestant, repetition, its result so far. Raises ArithmeticError if log-probs or gradients
    of those that train on the same loss differ: then it is no race.
    """
    results = {name: Result([], [], "") for name in contestants}
    answers: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        workers = {}
        for name in contestants:
            workers[name] = Worker(Spec(name, shape, point), folder)
            stack.callback(workers[name].close)
        for worker in workers.values():
            worker.ready()
        for repetition in range(repetitions):
            for name, worker in workers.items():
                result = results[name]
                if result.ended:
                    continue
                if not may_start(name):
                    results[name] = result._replace(ended="time was up")
                    continue
                if answer := worker.step():
                    result.seconds.append(answer["seconds"])
                    result.peak_bytes.append(answer["peak_bytes"])
                    answers.setdefault(name, answer)
                results[name] = result._replace(ended=worker.ended)
                done(name, repetition, results[name])
    check_equal({name: answer for name, answer in answers.items() if name != "trl_rows"}, point)
    return results


def check_equal(answers: dict[str, dict[str, Any]], point: Point) -> None:
    """Raise ArithmeticError unless all have the first one's log-probs, and its gradient's norm, up to the tolerance."""
    (first, expected), *others = list(answers.items()) or [("", {})]
    for name, answer in others:
        apart = float(np.abs(np.subtract(answer["logprobs"], expected["logprobs"])).max())
        norm = abs(answer["gradient_norm"] / expected["gradient_norm"] - 1)
        if not (apart <= TOLERANCE and norm <= TOLERANCE):  # so that NaN differs
            raise ArithmeticError(
                f"{point.name}: {name} and {first} do not do the same: log-probs differ by {apart:.3g}, gradient norms"
                f" by {norm:.3g} of each other"
            )


class Clock:
    """What is left to do, and about how long that takes: operations, by how fast each contestant has been so far."""

    def __init__(self, minutes: float, guess: float = 1e11) -> None:
        self.end = time.monotonic() + 60 * minutes
        self.guess = guess  # operations a second before anything is known
        self.left: list[tuple[str, int]] = []
        self.spent: dict[str, tuple[float, float]] = {}

    def add(self, name: str, operations: int) -> None:
        """A step to come."""
        self.left.append((name, operations))

    def finish(self, name: str, operations: int, seconds: float) -> None:
        """A step that was made."""
        done, took = self.spent.get(name, (0.0, 0.0))
        self.spent[name] = done + operations, took + seconds
        self.drop(name, operations)

    def drop(self, name: str, operations: int) -> None:
        """A step that was made, or never will be."""
        self.left.remove((name, operations))

    def seconds(self, name: str, operations: int) -> float:
        """How long such a step takes, about."""
        done, took = self.spent.get(name) or map(sum, zip(*self.spent.values(), strict=True)) if self.spent else (0, 0)
        return operations / (done / took if took else self.guess)

    def remaining(self) -> float:
        """Seconds of all steps to come, about."""
        return sum(self.seconds(*step) for step in self.left)

    def allows(self, name: str, operations: int) -> bool:
        """Whether such a step would end in time."""
        return time.monotonic() + self.seconds(name, operations) <= self.end
