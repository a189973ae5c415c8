"""What the measurements of ingest share: an ingest in a process of its own, with its time and its memory at the highest."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from components.ingest.base_model import TINY_WEIGHTS
from components.ingest.settings import IngestSettings

_EVERY = 0.1  # seconds between looks at the memory


def settings_of(annotations: Path, **changes: object) -> IngestSettings:
    """An ingest of annotations of one's own for the tiny model."""
    given = {
        "annotations": str(annotations),
        "model": str(TINY_WEIGHTS),
        "held_out_fraction": 0,
        "promotion_fraction": 0,
    }
    return IngestSettings.model_validate({**given, **changes})


def measured(settings: IngestSettings, store: Path) -> dict[str, Any]:
    """An ingest's results, and `cpu_seconds` and `peak_mb` of its process and `peak_workers_mb` of its decode workers."""
    command = [sys.executable, "-m", "tests.benchmarks.ingest_runs", settings.model_dump_json(), str(store)]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peaks = {"peak_mb": 0.0, "peak_workers_mb": 0.0}
    watcher = threading.Thread(target=_watch, args=(process.pid, peaks))
    watcher.start()
    output, _ = process.communicate()
    watcher.join()
    if process.returncode:
        raise SystemExit(process.returncode)
    return {**json.loads(output.splitlines()[-1]), **peaks, "wall_seconds": time.monotonic() - started}


def _watch(pid: int, peaks: dict[str, float]) -> None:
    try:
        process = psutil.Process(pid)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            peaks["peak_mb"] = max(peaks["peak_mb"], process.memory_info().rss / 1e6)
            workers = sum(_memory(child) for child in process.children())
            peaks["peak_workers_mb"] = max(peaks["peak_workers_mb"], workers)
            time.sleep(_EVERY)
    except psutil.NoSuchProcess:
        return


def _memory(process: psutil.Process) -> float:
    try:
        return process.memory_info().rss / 1e6
    except psutil.NoSuchProcess:
        return 0.0


def main() -> None:
    """One ingest: its results as the last line of stdout."""
    from components.ingest.step import ingest
    from components.shared.context import StepContext

    outputs = ingest(IngestSettings.model_validate_json(sys.argv[1]), StepContext(store=sys.argv[2]))
    dataset = outputs.artifacts["dataset"]
    figures = {"seconds": outputs.seconds, "cpu_seconds": time.process_time(), "dataset": dataset.digest}
    print(json.dumps({**outputs.results, **figures}))


if __name__ == "__main__":
    main()
