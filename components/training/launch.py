"""Starting the training processes: one directly, several through torchrun; all die with the step."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import components
from components.shared.processes import run_child
from components.training.spec import SUMMARY, Report, WorkerSpec

LOG = "training.log"
_WORKER = "components.training.worker"


def launch(spec: WorkerSpec, folder: Path) -> Report:
    """Run the workers to their end, their output in `folder`/training.log. Raises ChildFailed with the log's end.

    Returns their report, whose metrics are also in the store from then on, as `logs/<key>/metrics.jsonl`.
    """
    _run(spec, folder)
    report = Report.model_validate_json((spec.output / SUMMARY).read_text())
    lines = "".join(json.dumps(row) + "\n" for row in report.metrics)
    spec.context.open_store().write_object(f"logs/{spec.key}/metrics.jsonl", lines.encode())
    return report


def _run(spec: WorkerSpec, folder: Path) -> None:
    spec_file = folder / "spec.json"
    spec_file.write_text(spec.model_dump_json())
    root = str(Path(components.__file__).parents[1])
    # threads that spin while they wait are 5 times slower beside another job, and no faster without one
    passive = {"OMP_WAIT_POLICY": "PASSIVE"}
    env = {**passive, **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    processes = spec.settings.nproc_per_node
    if processes == 1:
        argv = [sys.executable, "-m", _WORKER, str(spec_file)]
        place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
        rendezvous = {"DEEPVIDEO_RENDEZVOUS": f"file://{folder / 'rendezvous'}"}
        run_child(argv, env={**env, **place, **rendezvous}, log=folder / LOG)
        return
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    argv = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    run_child([*argv, "-m", _WORKER, str(spec_file)], env={"OMP_NUM_THREADS": threads, **env}, log=folder / LOG)
