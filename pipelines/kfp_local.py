"""Run a compiled pipeline on this machine with kfp's local runner.

    python -m pipelines.kfp_local IR.yaml ROOT RESULT [CONTAINERS]

It runs as a process of its own, so that kfp's output goes to a log and Ctrl-C ends it cleanly. ROOT is where kfp keeps
the tasks' small files; RESULT gets the reference to the report. With CONTAINERS (an InContainers as JSON) every task runs
in its image, on the engine that DOCKER_HOST names, else as a process.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

from components.shared.files import write_atomic
from components.shared.processes import die_with_parent, name_ancestor


def run_local(ir: Path, root: Path, result: Path, containers: str = "") -> None:
    """Run the pipeline with its inputs' defaults. Raises RuntimeError, naming the task, if one fails."""
    from kfp import components, local

    warnings.filterwarnings("ignore")  # kfp warns of what only a cluster uses: resources, display names, images
    local.init(_runner(containers), pipeline_root=str(root), raise_on_error=True)
    task = components.load_component_from_file(str(ir))()
    write_atomic(result, Path(task.outputs["report"].path).read_text())


def _runner(containers: str) -> Any:
    from kfp import local

    if not containers:
        return local.SubprocessRunner(use_venv=False)
    from pipelines.containers.runner import InContainers

    if os.getuid() == 0:
        os.umask(0)  # what kfp makes below ROOT is written by the containers' user
    return InContainers.model_validate_json(containers).runner()


if __name__ == "__main__":
    die_with_parent()
    name_ancestor()
    given = [Path(word) for word in sys.argv[1:4]]
    run_local(given[0], given[1], given[2], *sys.argv[4:5])
