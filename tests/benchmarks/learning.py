"""Does the model learn? The laptop preset with several seeds, and a control whose rewards teach nothing.

    python tests/benchmarks/learning.py --output runs/learning

Runs what is not finished yet below the output folder, then prints, and writes to `learning.json` there: scores before and
after for each seed and level with 95 % intervals (paired by question, clustered by video), the control's, the share of
all-equal groups with and without augmentation (paired by sample, all seeds together, clustered by sample), and timings.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial
from pathlib import Path
from typing import NamedTuple

from components.report.summary import Summary
from components.shared.context import generator
from components.shared.ledger import LedgerRecord
from components.shared.statistics import Ratio, bootstrap_difference

FIGURES = ("sampled", "sampled_parsed", "greedy", "sampled_parse_failure")
RESAMPLES, CONFIDENCE = 10_000, 0.95


class Job(NamedTuple):
    """One run of the laptop preset."""

    folder: Path
    seed: int
    extra: Sequence[str]


def run(job: Job, threads: int) -> Summary:
    """Run the laptop preset in the job's folder, or continue it, and read its summary. What it prints goes to a log."""
    command = [sys.executable, "-m", "pipelines.cli", "run", "--preset", "laptop", "--seed", str(job.seed)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with open(f"{job.folder}.log", "w") as log:
        subprocess.run(
            [*command, "--output", str(job.folder), *job.extra], check=True, stdout=log, stderr=log, env=environment
        )
    print(f"{job.folder.name} is done", flush=True)
    return Summary.model_validate_json((job.folder / "summary.json").read_text())


def scores(summary: Summary) -> dict[str, dict[str, list[float | None]]]:
    """level -> figure -> [before, after, difference, low, high] in points of 100."""
    return {
        level: {
            name: [
                None if value is None else round(100 * value, 1)
                for value in (
                    figure.before.value,
                    figure.after.value,
                    figure.difference.value,
                    figure.difference.low,
                    figure.difference.high,
                )
            ]
            for name, figure in scored.figures.items()
            if name in FIGURES
        }
        for level, scored in summary.evaluation.items()
    }


def paired_groups(folder: Path) -> list[Mapping[str, object]]:
    """Every sample of every round: whether its group's rewards were all equal as it is, and as it was trained on."""
    pairs: list[Mapping[str, object]] = []
    for path in sorted((folder / "store" / "ledger").glob("rollout-*.json")):
        pairs += LedgerRecord.model_validate_json(path.read_text()).outputs.results["paired_all_equal"]  # type: ignore[operator]
    return pairs


def all_equal(folders: Sequence[Path]) -> dict[str, object]:
    """The share of all-equal groups without and with augmentation over all runs, and the paired difference."""
    pairs = [pair for folder in folders for pair in paired_groups(folder)]
    before = [float(bool(pair["before"])) for pair in pairs]
    after = [float(bool(pair["after"])) for pair in pairs]
    difference = bootstrap_difference(
        Ratio.mean(after),
        Ratio.mean(before),
        [str(pair["sample_id"]) for pair in pairs],
        resamples=RESAMPLES,
        confidence=CONFIDENCE,
        rng=generator(0, 0, "all equal", "bootstrap"),
    )
    return {
        "groups": len(pairs),
        "without": sum(before) / len(before),
        "with": sum(after) / len(after),
        "difference": [difference.value, difference.low, difference.high],
    }


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/learning"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, which share the cores")
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="SECTION.FIELD=VALUE")
    arguments = parser.parse_args()
    extra = [part for item in arguments.assignments for part in ("--set", item)]
    arguments.output.mkdir(parents=True, exist_ok=True)
    jobs = {f"seed {seed}": Job(arguments.output / f"seed-{seed}", seed, extra) for seed in arguments.seeds}
    folders = [job.folder for job in jobs.values()]
    control = ["--set", "rollout.permute_rewards=true", *extra]
    jobs["control"] = Job(arguments.output / "control", arguments.seeds[0], control)
    threads = max(1, len(os.sched_getaffinity(0)) // arguments.jobs)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        summaries = dict(zip(jobs, pool.map(partial(run, threads=threads), jobs.values()), strict=True))
    result = {
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, no GPU",
        "command": " ".join(["python", "tests/benchmarks/learning.py", *sys.argv[1:]]),
        "engines": summaries["control"].engines,
        "scores": {name: scores(summary) for name, summary in summaries.items()},
        "all_equal_groups": all_equal(folders),
        "seconds": {name: summary.timings.total_seconds for name, summary in summaries.items()},
        "startup_share": {name: summary.timings.startup_share for name, summary in summaries.items()},
        "promoted": {name: summary.promotion.promoted for name, summary in summaries.items()},
    }
    (arguments.output / "learning.json").write_text(json.dumps(result, indent=1) + "\n")
    for name, levels in result["scores"].items():
        for level, figures in levels.items():
            print(f"{name:8} {level:10} " + "  ".join(f"{figure} {values}" for figure, values in figures.items()))
    print(json.dumps({name: result[name] for name in ("all_equal_groups", "seconds", "startup_share")}, indent=1))


if __name__ == "__main__":
    main()
