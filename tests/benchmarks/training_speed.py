"""The race: one training step on one group, packed as this project does it, and as one row per response.

    python -m tests.benchmarks.training_speed            # all points: up to 40 minutes on 2 cores
    python -m tests.benchmarks.training_speed --quick    # tiny shapes: shows that it runs

On the same group, and with the same model, start weights and loss: `packed`, the project's own trainer; `rows_in_a_batch` and
`rows_one_by_one`, one row per response through the model as Hugging Face wrote it; `trl_rows`, TRL's own GRPOTrainer (see
race/trl_rows.py for what it is given). A step is forward and backward; the optimizer, which costs all the same, is left
out. First the contestants' log-probs and gradients are compared, and packed peak memory at a fixed prompt is measured by
response tokens, at two vocabularies and with fewer layers. Each runs in a new process at every point, which measures
the memory that its first step adds, and they take turns. A step that does not get its memory is a result.

Writes training_speed.json, .md and .svg and training_memory.svg to the output folder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.benchmarks.race import flops, plots, report
from tests.benchmarks.race.contest import ROOT, Clock, Result, contest, environment
from tests.benchmarks.race.equality import TOLERANCE
from tests.benchmarks.race.shapes import QUICK, RACE, ModelShape, Point
from tests.benchmarks.race.trl_rows import VERSION, installed
from tests.benchmarks.race.worker import CONTESTANTS

RESULTS = Path(__file__).parent / "results"


class Plan(NamedTuple):
    """What is measured."""

    shape: ModelShape
    points: Sequence[Point]
    repetitions: int
    check: Point  # where log-probs and gradients are compared
    sweep: Sequence[Point]  # of packed peak memory
    sweep_layers: int
    vocabularies: tuple[int, int]  # of the sweep


FULL = Plan(
    RACE,
    points=(
        report.MAIN,
        Point(128, 32, 4),
        Point(128, 32, 16),
        Point(128, 128, 8),
        Point(128, 512, 4),
        Point(256, 64, 8),
        Point(512, 32, 4),
        Point(512, 64, 4),
        Point(4096, 32, 4),  # over a third of all the work: what time is left goes to it
    ),
    repetitions=3,
    check=Point(128, 32, 4),
    sweep=(Point(512, 64, 8), Point(512, 256, 8), Point(512, 256, 16), Point(512, 512, 16)),
    sweep_layers=2,
    vocabularies=(16_000, 32_000),
)
TINY = Plan(
    QUICK,
    points=(Point(64, 8, 4),),
    repetitions=2,
    check=Point(32, 8, 3),
    sweep=(Point(32, 8, 2),),
    sweep_layers=1,
    vocabularies=(256, 512),
)


def check_equal(plan: Plan, *, trl: bool) -> dict[str, dict[str, float]]:
    """How far each contestant's log-probs and gradients are from the packed ones. Raises ArithmeticError beyond 1e-4."""
    arguments = [json.dumps(part) for part in (plan.shape, plan.check, trl)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.race.equality", *arguments],
        check=True,
        stdout=subprocess.PIPE,
        stderr=None if os.environ.get("VERBOSE") else subprocess.DEVNULL,
        cwd=ROOT,
        env=environment(),
    )
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    for name, differences in found.items():
        if not all(value <= TOLERANCE for value in differences.values()):
            raise ArithmeticError(f"{name} does not do the same work as packed: {differences}")
    return found


class Race:
    """All steps of a plan, in order, within a time limit. What it does is printed."""

    def __init__(self, plan: Plan, contestants: Sequence[str], minutes: float, folder: Path) -> None:
        self.plan, self.contestants, self.folder = plan, contestants, folder
        self.clock = Clock(minutes)
        for point in plan.points:
            for name in contestants:
                for _ in range(plan.repetitions):
                    self.clock.add(name, self._operations(plan.shape, point, name))
        for shape, point in self._sweep():
            self.clock.add("packed", self._operations(shape, point, "packed"))

    def run(self) -> dict[str, Any]:
        """The figures of all points, and the sweep's."""
        sweep = []
        for shape, point in self._sweep():
            result = self._contest(shape, point, ("packed",), 1)["packed"]
            sweep.append(
                {
                    "vocabulary": shape.vocabulary,
                    "point": point._asdict(),
                    "response_tokens": point.generations * point.response,
                    "peak_bytes": result.peak_bytes[0] if result.peak_bytes else None,
                    "ended": result.ended or None,
                }
            )
        points = []
        for point in self.plan.points:
            results = self._contest(self.plan.shape, point, self.contestants, self.plan.repetitions)
            points.append(report.figures(self.plan.shape, point, results))
        return {"points": points, "memory_sweep": sweep}

    def _sweep(self) -> list[tuple[ModelShape, Point]]:
        plan = self.plan
        return [
            (plan.shape._replace(layers=plan.sweep_layers, vocabulary=vocabulary), point)
            for vocabulary in plan.vocabularies
            for point in plan.sweep
        ]

    def _operations(self, shape: ModelShape, point: Point, name: str) -> int:
        return flops.step(shape, report.WORK[name](point))

    def _contest(self, shape: ModelShape, point: Point, names: Sequence[str], repetitions: int) -> dict[str, Result]:
        operations = {name: self._operations(shape, point, name) for name in names}
        results = contest(
            names,
            shape,
            point,
            repetitions=repetitions,
            folder=self.folder,
            may_start=lambda name: self.clock.allows(name, operations[name]),
            done=partial(self._done, shape, point),
        )
        for name, result in results.items():
            for _ in range(repetitions - len(result.seconds)):
                self.clock.drop(name, operations[name])
        return results

    def _done(self, shape: ModelShape, point: Point, name: str, repetition: int, result: Result) -> None:
        said = result.ended
        if not said:
            self.clock.finish(name, self._operations(shape, point, name), result.seconds[-1])
            said = f"{result.seconds[-1]:8.2f} s {result.peak_bytes[-1] / report.GIB:7.2f} GiB"
        left = f"about {self.clock.remaining() / 60:.0f} min left"
        vocabulary = f"vocabulary {shape.vocabulary}"
        print(f"{point.name:14} {vocabulary:18} {name:16} {repetition + 1}: {said}   {left}", flush=True)


def hardware() -> str:
    """This machine, in words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = psutil.virtual_memory().total / report.GIB
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {names[0] if names else platform.machine()}, {memory:.0f} GiB memory, no GPU used"


def main() -> None:
    """Compare, race, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="tiny shapes; the output folder is runs/training-speed then"
    )
    parser.add_argument("--output", type=Path, help="folder of the results; default: where they are committed")
    parser.add_argument("--minutes", type=float, default=40, help="no step starts that would end later")
    parser.add_argument("--points", nargs="+", metavar="P/R/G", help="these points instead of the plan's")
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    arguments = parser.parse_args()
    started = time.monotonic()
    plan = TINY if arguments.quick else FULL
    if arguments.points:
        plan = plan._replace(points=[Point(*map(int, point.split("/"))) for point in arguments.points], sweep=())
    contestants = ["packed", *(name for name in arguments.contestants if name != "packed")]
    if "trl_rows" in contestants and not installed().startswith(VERSION):
        print(
            f"TRL {VERSION} is not installed, so it does not race: pip install -c docker/constraints.txt -e '.[bench]'"
        )
        contestants.remove("trl_rows")
    output = arguments.output or (Path("runs/training-speed") if arguments.quick or arguments.points else RESULTS)
    output.mkdir(parents=True, exist_ok=True)

    equal = check_equal(plan, trl="trl_rows" in contestants)
    print(f"Equal work, largest differences from packed: {json.dumps(equal)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        spent = (time.monotonic() - started) / 60
        raced = Race(plan, contestants, arguments.minutes - spent, Path(folder)).run()
    packages = ["torch", "transformers", *(["trl"] if "trl_rows" in contestants else [])]
    content = {
        "date": date.today().isoformat(),
        "hardware": hardware(),
        "command": " ".join(["python -m tests.benchmarks.training_speed", *sys.argv[1:]]),
        "engines": ", ".join(f"{name} {version(name)}" for name in packages),
        "model": ", ".join(f"{name} {value}" for name, value in plan.shape._asdict().items()) + "; fp32",
        "repetitions": plan.repetitions,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "largest_differences_from_packed": equal,
        "sweep_layers": plan.sweep_layers,
        **raced,
    }
    content["goals"] = report.goals(content["points"], content["memory_sweep"])
    (output / "training_speed.json").write_text(json.dumps(content, indent=1) + "\n")
    (output / "training_speed.md").write_text(report.table(content))
    plots.speed(content["points"], output / "training_speed.svg")
    if content["memory_sweep"]:
        plots.memory(content["memory_sweep"], output / "training_memory.svg")
    print(report.table(content))


if __name__ == "__main__":
    main()
