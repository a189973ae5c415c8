"""What the machine does while a step is at work: CPU, memory, disk, network and GPUs, under MLflow's own names.

The samples wait in the spool from the first minute on, so that those of a step that is killed are kept. They stand on one
axis for all steps of a run: seconds since it began.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from components.shared.context import StepContext
from components.shared.runs import read_run
from components.shared.store import StoreError
from components.shared.tracking.entries import Entry, Value, now
from components.shared.tracking.spool import leave, packet_name

log = logging.getLogger(__name__)

_SAMPLE_SECONDS = 10.0
_KEEP_SECONDS = 60.0


class SystemMetrics:
    """Samples the machine for a step, from its making until `stop`. Without a tracking URI it does nothing."""

    def __init__(self, context: StepContext, step: str, seconds: float = _SAMPLE_SECONDS) -> None:
        self._context, self._step, self._seconds = context, step, seconds
        self._packet, self._began = packet_name(), now()
        self._samples: dict[tuple[str, int], Value] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system metrics", daemon=True)
        if context.tracking_uri:
            self._thread.start()

    def stop(self) -> None:
        """Put the last samples into the spool."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        monitors = _monitors()
        run = read_run(self._context.open_store(), self._context.run_name)
        began = datetime.fromisoformat(run.started).timestamp() if run else time.time()
        kept = time.monotonic()
        going = True
        while going:
            going = not self._stopped.wait(self._seconds)
            made = now()
            for name, value in sample(monitors).items():
                second = int(made / 1000 - began)
                self._samples[name, second] = Value(name=f"system/{name}", value=value, step=second, time=made)
            if not going or time.monotonic() - kept >= _KEEP_SECONDS:
                kept = time.monotonic()
                self._keep()

    def _keep(self) -> None:
        entry = Entry(
            step=self._step, round=self._context.round, began=self._began, metrics=tuple(self._samples.values())
        )
        try:
            leave(self._context, [entry], self._packet)
        except StoreError as error:  # the step's own requests will fail, or the store comes back
            log.warning("system metrics of %s cannot be kept: %s", self._step, error)


def sample(monitors: Sequence[Any]) -> Mapping[str, float]:
    """One sample of each of MLflow's monitors, by MLflow's names."""
    found: dict[str, float] = {}
    for monitor in monitors:
        monitor.collect_metrics()
        found |= {name: float(value) for name, value in monitor.aggregate_metrics().items()}
        monitor.clear_metrics()
    return found


def _monitors() -> list[Any]:
    """MLflow's monitors, without GPUs where there are none, or no nvidia-ml-py."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    found: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        found.append(GPUMonitor())
    except (ImportError, RuntimeError) as error:
        log.debug("no GPU metrics: %s", error)
    return found
