"""What runs on each node of a TrainJob: `python -m components.training.trainjob.node STORE KEY`.

It fetches the work's artifacts from the store, runs the node's share of the workers, and on the first node puts policy and
state into the store. Checkpoints are there as well, so that a new job goes on where an earlier one ended.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from components.shared.store import open_store
from components.training.launch import launch_share, read_report
from components.training.results import store_trained
from components.training.trainjob.handover import take_over, watch, write_trained

_RANK = "PET_NODE_RANK"  # torchrun's name for the node's number, which Kubeflow Trainer sets


def main(uri: str, key: str) -> None:
    """Train this node's share of the work."""
    signal.signal(signal.SIGTERM, _leave)  # the first process of a container is not ended by it otherwise
    work = take_over(open_store(uri), key)
    store, leads = work.context.open_store(), os.environ[_RANK] == "0"
    if leads:
        watch(store, key, _abandoned)
    print("fetching the round's artifacts", flush=True)
    with tempfile.TemporaryDirectory(prefix="deepvideo-training-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        output = folder / "output"
        output.mkdir()
        spec = work.fetched(output)
        print("starting the workers", flush=True)
        launch_share(spec, folder)
        if leads:
            print("storing policy and state", flush=True)
            write_trained(store, key, store_trained(work, output, read_report(spec)))


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)


def _abandoned() -> None:
    print("the step that launched this job gives no sign of life any more: ending", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(*sys.argv[1:])
