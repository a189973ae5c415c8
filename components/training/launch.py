"""Starting the training processes: one directly, several through torchrun; all die with the process that starts them."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import components
from components.shared.processes import run_child
from components.training.results import Trained, store_trained
from components.training.spec import SUMMARY, Report, Work, WorkerSpec

LOG = "training.log"
_NODES_WAIT = 3600  # seconds for one another: images and artifacts take their time to come
_WORKER = "components.training.worker"


def train_here(work: Work) -> Trained:
    """Train a round with this machine's processes. Raises ChildFailed with the end of their log."""
    with tempfile.TemporaryDirectory(prefix="deepvideo-training-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        output = folder / "output"
        output.mkdir()
        return store_trained(work, output, launch(work.fetched(output), folder))


def launch(spec: WorkerSpec, folder: Path) -> Report:
    """Run the workers to their end, their output in `folder`/training.log. Raises ChildFailed with the log's end.

    Returns their report, whose metrics are also in the store from then on, as `logs/<key>/metrics.jsonl`.
    """
    processes = spec.settings.nproc_per_node
    log, spec_file = folder / LOG, _write(spec, folder)
    if processes == 1:
        place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
        rendezvous = {"DEEPVIDEO_RENDEZVOUS": f"file://{folder / 'rendezvous'}"}
        argv = [sys.executable, "-m", _WORKER, spec_file]
        run_child(argv, env={**_environment(), **place, **rendezvous}, log=log)
    else:
        _torchrun(spec, spec_file, log, "--standalone", f"--nproc-per-node={processes}")
    return read_report(spec)


def launch_share(spec: WorkerSpec, folder: Path) -> None:
    """Run this node's workers, among those of other nodes, their output on this process's own.

    Where the nodes meet and which one this is stands in torchrun's variables PET_*. Raises ChildFailed.
    """
    processes = f"--nproc-per-node={spec.settings.nproc_per_node}"
    _torchrun(spec, _write(spec, folder), None, processes, f"--rdzv-conf=timeout={_NODES_WAIT}")


def read_report(spec: WorkerSpec) -> Report:
    """What the workers of rank 0's machine reported; its metrics go into the store."""
    report = Report.model_validate_json((spec.output / SUMMARY).read_text())
    lines = "".join(json.dumps(row) + "\n" for row in report.metrics)
    spec.context.open_store().write_object(f"logs/{spec.key}/metrics.jsonl", lines.encode())
    return report


def _write(spec: WorkerSpec, folder: Path) -> str:
    spec_file = folder / "spec.json"
    spec_file.write_text(spec.model_dump_json())
    return str(spec_file)


def _torchrun(spec: WorkerSpec, spec_file: str, log: Path | None, *options: str) -> None:
    threads = str(max(1, (os.cpu_count() or 1) // spec.settings.nproc_per_node))
    argv = [sys.executable, "-m", "torch.distributed.run", *options, "-m", _WORKER, spec_file]
    run_child(argv, env={"OMP_NUM_THREADS": threads, **_environment()}, log=log)


def _environment() -> dict[str, str]:
    root = str(Path(components.__file__).parents[1])
    # threads that spin while they wait are 5 times slower beside another job, and no faster without one
    passive = {"OMP_WAIT_POLICY": "PASSIVE"}
    return {**passive, **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
