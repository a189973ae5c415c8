"""The output of a TrainJob's nodes in the step's own log, as it comes, each line with its node's number."""

from __future__ import annotations

import math
import re
import threading
import time
from datetime import UTC, datetime
from typing import Any

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from components.training.trainjob.cluster import Cluster, node_of
from components.training.trainjob.manifest import NODE
from components.training.trainjob.nodes import TrainJobError

_LINE = re.compile(r"(?P<stamp>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S*) ?(?P<text>.*)")
_WAIT = 2.0  # seconds before a log that broke off is asked for again
_LAST_LINES = 30.0  # seconds that are waited for the rest when the job is over


class NodeLogs:
    """Copies every node's output to ours, in a thread a node."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._threads: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()

    def follow(self, pods: list[Any]) -> None:
        """Begin with those of the pods whose container has started."""
        for pod in pods:
            name = pod.metadata.name
            if name not in self._threads and started(pod):
                thread = threading.Thread(target=self._copy, args=(name, node_of(pod)), daemon=True, name=f"log {name}")
                self._threads[name] = thread
                thread.start()

    def finish(self) -> None:
        """Wait for what is still to come of nodes that have ended."""
        end = time.monotonic() + _LAST_LINES
        for thread in self._threads.values():
            thread.join(max(0.0, end - time.monotonic()))

    def _copy(self, pod: str, node: int) -> None:
        last = ""  # the time stamp of the last line; they ascend, to the nanosecond
        over = False
        while not over:
            try:
                found = self.cluster.pod(pod)
                over = found is None or container_state(found).terminated is not None  # asked before: all is in the log
                for raw in self.cluster.log(pod, _seconds_since(last) if last else None):
                    if (line := _LINE.match(raw.decode(errors="replace"))) and line["stamp"] > last:
                        last = line["stamp"]
                        with self._lock:
                            print(f"[node {node}] {line['text']}", flush=True)
            except (ApiException, HTTPError, TrainJobError):  # it is asked for again while the job lasts
                pass
            if not over:
                time.sleep(_WAIT)


def started(pod: Any) -> bool:
    """Whether the node's container runs or has run."""
    state = container_state(pod)
    return state.running is not None or state.terminated is not None


def container_state(pod: Any) -> Any:
    """The state of the node's container, by Kubernetes' model; one that says nothing if there is none yet."""
    from kubernetes.client import V1ContainerState

    found = [item.state for item in pod.status.container_statuses or () if item.name == NODE and item.state]
    return found[0] if found else V1ContainerState()


def _seconds_since(stamp: str) -> int:
    """Rounded up, with a second for clocks that differ: what comes twice is left out by its time stamp."""
    then = datetime.fromisoformat(stamp[:19]).replace(tzinfo=UTC)  # its fraction may have nine digits
    return max(1, math.ceil((datetime.now(UTC) - then).total_seconds()) + 1)
