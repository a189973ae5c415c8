"""The launching step's part: make the TrainJob of a round or find it at work, follow it, and end it if the step is ended.

Of what may end the step: a request (SIGTERM) and errors delete the job at once; after a kill the job works on, and the next
attempt finds it; if none comes, Kubernetes deletes the job with the pod that owns it, and its nodes end by themselves when
nobody gives them signs of life.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from components.training.results import Trained
from components.training.spec import Work
from components.training.trainjob.cluster import LAST_PATIENCE, Cluster, node_of
from components.training.trainjob.handover import hand_over, read_trained, signs_of_life
from components.training.trainjob.logs import NodeLogs, container_state
from components.training.trainjob.manifest import name_of, train_job
from components.training.trainjob.nodes import Launcher, Nodes, TrainJobError

POLL = 3.0  # seconds between looks at the job
_LINES = 30  # of a failing node's log


def train_on_nodes(work: Work, nodes: Nodes) -> Trained:
    """Train a round by a TrainJob. Raises TrainJobError with the failing node's last lines, or the remedy.

    A job of an earlier attempt that is at work is followed, one that failed is replaced.
    """
    store = work.context.open_store()
    if trained := read_trained(store, work.key):
        return trained
    run = _JobRun(work, nodes)
    with _ended_by_exceptions(), signs_of_life(store, work.key):
        try:
            hand_over(store, work)
            run.begin()
            run.follow()
        finally:
            run.leave()
    if trained := read_trained(store, work.key):
        return trained
    raise TrainJobError(
        f"TrainJob {run.name}: is complete and left no result in {store.uri_of('')}: delete it, and retry"
    )


class _JobRun:
    def __init__(self, work: Work, nodes: Nodes) -> None:
        self.name = name_of(work)
        self.cluster = Cluster(Launcher.of_this_pod())
        self.manifest = train_job(work, nodes, self.cluster.launcher)
        self.over = False
        self._said: dict[str, str] = {}

    def begin(self) -> None:
        """See that the job is at work, as ours."""
        while True:
            job = self.cluster.read(self.name)
            if job is None:
                if self.cluster.create(self.manifest):
                    self._say("job", f"made, on {self.manifest['spec']['trainer']['numNodes']} nodes")
                    return
            elif "deletionTimestamp" in job["metadata"]:
                self._say("job", "an earlier one is being deleted")
                time.sleep(POLL)
            elif ended := _ended(job):
                self._say("job", f"an earlier one is {ended['type']} ({ended.get('message', '')}): making it anew")
                self.cluster.delete(job)
            else:
                self.cluster.adopt(self.name)
                self._say("job", "is at work since an earlier attempt: following it")
                return

    def follow(self) -> None:
        """Wait for its end, its nodes' output in ours. Raises TrainJobError if it fails."""
        logs = NodeLogs(self.cluster)
        while True:
            job = self.cluster.read(self.name)
            if job is None:
                self.over = True
                raise TrainJobError(f"TrainJob {self.name}: was deleted while it ran, by someone else; retry to go on")
            pods = self.cluster.pods(self.name)
            logs.follow(pods)
            self._tell(job, pods)
            if ended := _ended(job):
                self.over = True
                logs.finish()
                if ended["type"] == "Failed":
                    raise TrainJobError(self._why(ended, pods))
                return
            time.sleep(POLL)

    def leave(self) -> None:
        """Delete the job unless it is over, or another attempt follows it by now."""
        if self.over:
            return
        job = self.cluster.read(self.name, LAST_PATIENCE)
        if job and self.cluster.owns(job):
            self.cluster.delete(job)
            print(f"TrainJob {self.name}: deleted", flush=True)

    def _tell(self, job: dict[str, Any], pods: list[Any]) -> None:
        """Print what has changed: why the job waits, and why its nodes do."""
        for item in job.get("status", {}).get("conditions", ()):
            if item["status"] == "True":
                self._say(item["type"], f"{item['type']}: {item.get('message', '')}")
        for pod in pods:
            self._say(pod.metadata.name, f"node {node_of(pod)} ({pod.metadata.name}): {_state(pod)}")

    def _say(self, about: str, what: str) -> None:
        if self._said.get(about) != what:
            self._said[about] = what
            print(f"TrainJob {self.name}: {what}", flush=True)

    def _why(self, ended: dict[str, Any], pods: list[Any]) -> str:
        """The job's own word, and the last lines of the nodes that failed first."""
        said = f"TrainJob {self.name} failed: {ended.get('reason', '')}: {ended.get('message', '')}"
        failed = [pod for pod in pods if (found := container_state(pod).terminated) and found.exit_code]
        first = min((container_state(pod).terminated.finished_at for pod in failed), default=None)
        for pod in failed:
            state = container_state(pod).terminated
            if state.finished_at == first:  # of the others the connection broke
                how = f"exit code {state.exit_code}" + (f", {state.reason}" if state.reason else "")
                lines = self.cluster.last_lines(pod.metadata.name, _LINES)
                said += f"\nThe last lines of node {node_of(pod)} ({how}):\n{lines}"
        return said


def _ended(job: dict[str, Any]) -> dict[str, Any] | None:
    """The condition that says how the job ended, None while it has not."""
    conditions = job.get("status", {}).get("conditions", ())
    return next(
        (item for item in conditions if item["type"] in ("Complete", "Failed") and item["status"] == "True"), None
    )


def _state(pod: Any) -> str:
    """What a pod does or waits for."""
    state = container_state(pod)
    if state.waiting:
        return ": ".join(filter(None, (state.waiting.reason, state.waiting.message)))
    unscheduled = [
        item for item in pod.status.conditions or () if item.type == "PodScheduled" and item.status == "False"
    ]
    return unscheduled[0].message or "Pending" if unscheduled else pod.status.phase


@contextlib.contextmanager
def _ended_by_exceptions() -> Iterator[None]:
    """Let SIGTERM end the block by an exception, as Ctrl-C does, so that what it holds is let go of."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python hands signals to the main thread alone
        return

    def leave(number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
