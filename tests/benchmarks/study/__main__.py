"""The paper's comparison at laptop scale, on Moving Shapes: run what is not done yet, then tables, plots and the page.

    python -m tests.benchmarks.study            # all of it: at most 2.5 hours on 2 cores
    python -m tests.benchmarks.study --quick    # fewer arms, seeds, questions and responses: minutes

Can be stopped at any time: the same command goes on. Every finished run is a file below raw/, used again as long as its
settings, data, base model and code are the same. With --render the page is made from the files as they are.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import sys
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "tests/benchmarks/results/study"


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(
        prog="study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the quick one; never touches the committed results")
    parser.add_argument(
        "--output", type=Path, help="where results go (default: the committed ones; quick: runs/study-quick)"
    )
    parser.add_argument("--store", type=Path, default=ROOT / "runs/study-data", help="where the generated data lie")
    parser.add_argument("--processes", type=int, default=2, help="runs at the same time, of a core each")
    parser.add_argument("--arms", nargs="+", help="these arms alone; the page then shows what there is")
    parser.add_argument("--render", action="store_true", help="run nothing: make the page from the results as they are")
    arguments = parser.parse_args()

    from components.evaluation.questions import chosen_questions
    from components.shared.dataset import DatasetReader
    from components.shared.files import write_atomic
    from tests.benchmarks.study.arms import ARMS, FULL, QUICK
    from tests.benchmarks.study.report import ABOUT, QUESTIONS, Progress, collect, engines, write_page
    from tests.benchmarks.study.schedule import Study, run_all
    from tests.benchmarks.study.workplace import LEVELS, QUESTION_SEED, described, ingested

    console = Console(soft_wrap=True)
    plan = QUICK if arguments.quick else FULL
    folder = arguments.output or (ROOT / "runs/study-quick" if arguments.quick else RESULTS)
    unknown = sorted(set(arguments.arms or ()) - set(plan.arms))
    if unknown:
        parser.error(f"--arms: {', '.join(unknown)}: no such arm here; there are {', '.join(plan.arms)}")
    about = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, no GPU, a run a core",
        "command": f"python -m tests.benchmarks.study {shlex.join(sys.argv[1:])}".strip(),
    }
    if not arguments.render:
        console.print("Moving Shapes and the base model: ingest, done once")
        inputs = ingested(ARMS[plan.arms[0]].settings(0, None), arguments.store)
        about |= engines(inputs)
        write_atomic(folder / ABOUT, json.dumps(about, indent=1) + "\n")
        questions = chosen_questions(
            DatasetReader(inputs.folder(inputs.dataset)), LEVELS, plan.questions, QUESTION_SEED
        )
        write_atomic(folder / QUESTIONS, described(questions).model_dump_json(indent=1) + "\n")
        study, only = Study(plan, inputs, folder), set(arguments.arms or plan.arms)
        with Progress(study, only, arguments.processes, console) as progress:
            run_all(study, only, arguments.processes, progress.done)
    write_page(collect(plan, folder), folder, console)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
