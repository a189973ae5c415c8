"""What a Kubernetes API server with Kubeflow Trainer holds and does, for one namespace; kubernetes_http.py serves it.

TrainJobs are checked by Trainer's published schema, unknown fields refused, and by what its webhook refuses besides. Its
controller is played with real processes: a node is the TrainJob's command on this machine, with the environment that its
pod would have and a disk of its own. Deleting an object deletes what it owns, as Kubernetes' garbage collector does.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kubernetes_validate

from components.shared.processes import kill_descendants
from k8s.check.schemas import KUBERNETES
from pipelines.containers.daemons import free_port
from tests.services.kubernetes_trainer import Status, check_train_job

NAMESPACE = "deepvideo"
JOBS = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainjobs"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
_DELETE_OPTIONS = {"propagationPolicy", "preconditions", "gracePeriodSeconds", "apiVersion", "kind"}


@dataclass
class Pod:
    """A pod's object; of a node also its process and what it printed, a time stamp before each line."""

    content: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None
    lines: list[str] = field(default_factory=list)
    complete: bool = True  # whether all its output is in `lines`


class Kubernetes:
    """What the cluster holds. `refuse` is a status for every request, `busy` so many requests are answered with 503."""

    def __init__(self, folder: Path, secrets: Mapping[str, dict[str, str]], maps: Mapping[str, dict[str, str]]) -> None:
        self.folder, self.secrets, self.maps = folder, secrets, maps
        self.url, self.requests = "", list[tuple[str, str]]()
        self.jobs: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, Pod] = {}
        self.refuse, self.busy = 0, 0
        self._lock = threading.RLock()

    def add_pod(self, name: str) -> str:
        """A pod that something else made, such as a step's; returns its uid."""
        content = _pod(name, {}, "light", {})
        with self._lock:
            self.pods[name] = Pod(content)
        return content["metadata"]["uid"]

    def delete_pod(self, name: str) -> None:
        """Delete a pod and what no pod owns any more."""
        with self._lock:
            self._end(self.pods.pop(name))
            alive = {pod.content["metadata"]["uid"] for pod in self.pods.values()}
            for job in [*self.jobs.values()]:
                owners = job["metadata"].get("ownerReferences", [])
                if owners and not any(owner["uid"] in alive for owner in owners):
                    self._remove(job["metadata"]["name"])

    def processes(self) -> list[subprocess.Popen[bytes]]:
        """The processes of all nodes that run."""
        return [pod.process for pod in [*self.pods.values()] if pod.process and pod.process.poll() is None]

    def nodes(self) -> list[Pod]:
        """The nodes' pods, in their order."""
        return [pod for name, pod in sorted(self.pods.items()) if "-node-0-" in name]

    def answer(self, method: str, path: str, query: Mapping[str, str], body: Any) -> Any:
        """The answer to a request about objects. Raises Status."""
        with self._lock:
            self.requests.append((method, path))
            if self.refuse:
                raise Status(self.refuse, "trainjobs.trainer.kubeflow.org is forbidden: User may not do this")
            if self.busy:
                self.busy -= 1
                raise Status(503, "the server is currently unable to handle the request")
            if path == JOBS and method == "POST":
                return self._create(body, query)
            if path.startswith(f"{JOBS}/"):
                return self._job(method, path.rpartition("/")[2], body)
            if path == PODS and method == "GET":
                key, _, value = query["labelSelector"].partition("=")
                found = [
                    pod.content for pod in self.pods.values() if pod.content["metadata"]["labels"].get(key) == value
                ]
                return {
                    "kind": "PodList",
                    "apiVersion": "v1",
                    "metadata": {},
                    "items": [self._seen(item) for item in found],
                }
            if path.startswith(f"{PODS}/") and method == "GET":
                return self._seen(self.pod(path.removeprefix(f"{PODS}/")).content)
            raise Status(404, f"{method} {path}: the server could not find the requested resource")

    def pod(self, name: str) -> Pod:
        """The pod of that name. Raises Status."""
        if name not in self.pods:
            raise Status(404, f'pods "{name}" not found')
        return self.pods[name]

    def stop(self) -> None:
        """End all nodes."""
        for pod in [*self.pods.values()]:
            self._end(pod)

    def _create(self, job: Any, query: Mapping[str, str]) -> Any:
        name = job["metadata"]["name"]
        if query.get("fieldValidation") != "Strict":
            raise Status(400, "unknown fields would be dropped in silence: ask for fieldValidation=Strict")
        check_train_job(job)
        if name in self.jobs:
            raise Status(409, f'trainjobs.trainer.kubeflow.org "{name}" already exists')
        job["metadata"] |= {"uid": str(uuid.uuid4()), "namespace": NAMESPACE, "resourceVersion": "1"}
        job["status"] = {"conditions": []}
        self.jobs[name] = job
        port = free_port()
        for node in range(job["spec"]["trainer"]["numNodes"]):
            self._start(job, node, port)
        threading.Thread(target=self._control, args=(job,), daemon=True).start()
        return job

    def _job(self, method: str, name: str, body: Any) -> Any:
        if name not in self.jobs:
            raise Status(404, f'trainjobs.trainer.kubeflow.org "{name}" not found')
        job = self.jobs[name]
        if method == "PATCH":
            changed = {**job, "metadata": {**job["metadata"], **body.get("metadata", {})}}
            if unknown := set(body) - {"metadata"}:
                raise Status(422, f"{unknown}: nothing else is changed here")
            check_train_job({key: value for key, value in changed.items() if key != "status"})
            job["metadata"] = changed["metadata"]
        elif method == "DELETE":
            if unknown := set(body or {}) - _DELETE_OPTIONS:
                raise Status(400, f"DeleteOptions: unknown field {unknown}")
            wanted = (body or {}).get("preconditions", {}).get("uid")
            if wanted not in (None, job["metadata"]["uid"]):
                raise Status(409, f"the UID in the precondition ({wanted}) does not match")
            self._remove(name)
        return job

    def _remove(self, name: str) -> None:
        job = self.jobs[name]
        job["metadata"]["deletionTimestamp"] = _now()
        for pod in [pod for pod in self.pods if pod.startswith(f"{name}-node-0-")]:
            self._end(self.pods.pop(pod))
        del self.jobs[name]

    def _end(self, pod: Pod) -> None:
        if pod.process and pod.process.poll() is None:
            pod.process.send_signal(signal.SIGTERM)  # then, as a container's end, everything in it
            with contextlib.suppress(subprocess.TimeoutExpired):
                pod.process.wait(10)  # the client waits 30 s for an answer, and two nodes end one after the other
            kill_descendants(pod.process.pid)
            pod.process.kill()
            pod.process.wait()

    def _start(self, job: dict[str, Any], node: int, port: int) -> None:
        """A node's pod, and its container as a process."""
        name, trainer = job["metadata"]["name"], job["spec"]["trainer"]
        disk = self.folder / f"{name}-{node}-{uuid.uuid4().hex[:5]}"
        disk.mkdir()
        env = {
            **{key: os.environ[key] for key in ("PATH", "PYTHONPATH", "OMP_NUM_THREADS", "HOME") if key in os.environ},
            **{"TMPDIR": str(disk), "DEEPVIDEO_CACHE": str(disk / "cache"), "NO_PROXY": "*"},
            **self._resolved(trainer["env"]),
            **{"PET_NNODES": str(trainer["numNodes"]), "PET_NODE_RANK": str(node)},
            **{"PET_NPROC_PER_NODE": str(trainer["numProcPerNode"])},
            **{"PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(port)},
        }
        program, *rest = [*trainer["command"], *trainer["args"]]
        assert program == "python"
        process = subprocess.Popen(
            [sys.executable, *rest], env=env, cwd=disk, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        labels = {"jobset.sigs.k8s.io/jobset-name": name, "batch.kubernetes.io/job-completion-index": str(node)}
        pod = Pod(
            _pod(f"{name}-node-0-{node}-{uuid.uuid4().hex[:5]}", labels, "node", {"running": {"startedAt": _now()}})
        )
        pod.process, pod.complete = process, False
        self.pods[pod.content["metadata"]["name"]] = pod
        threading.Thread(target=_read, args=(pod,), daemon=True).start()

    def _resolved(self, env: list[dict[str, Any]]) -> dict[str, str]:
        """The variables that a container of this namespace gets."""
        found = {}
        for item in env:
            for source, known in (("secretKeyRef", self.secrets), ("configMapKeyRef", self.maps)):
                if reference := item["valueFrom"].get(source):
                    value = known.get(reference["name"], {}).get(reference["key"])
                    assert value is not None or reference["optional"], f"CreateContainerConfigError: {reference}"
                    found |= {} if value is None else {item["name"]: value}
        return found

    def _control(self, job: dict[str, Any]) -> None:
        """What Trainer's controller, JobSet's and Job's do until the job is over; a failed pod fails it (backoffLimit 0)."""
        name = job["metadata"]["name"]
        with self._lock:
            pods = [pod for key, pod in self.pods.items() if key.startswith(f"{name}-node-0-")]
        while self.jobs.get(name) is job:
            time.sleep(0.1)
            done = [pod for pod in pods if pod.complete and pod.process and pod.process.poll() is not None]
            with self._lock:
                for pod in done:
                    _terminated(pod.content, pod.process.returncode if pod.process else 0)
                if any(pod.process and pod.process.returncode for pod in done):
                    for key in [key for key, pod in self.pods.items() if pod in pods and pod not in done]:
                        self._end(self.pods.pop(key))
                    _over(job, "Failed", "FailedJobs", "jobset failed due to one or more job failures")
                    return
                if len(done) == len(pods):
                    _over(job, "Complete", "AllJobsCompleted", "jobset completed successfully")
                    return

    def _seen(self, pod: dict[str, Any]) -> dict[str, Any]:
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        return pod


def _pod(name: str, labels: dict[str, str], container: str, state: dict[str, Any]) -> dict[str, Any]:
    status = {"name": container, "image": "i", "imageID": "i", "ready": True, "restartCount": 0, "state": state}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": str(uuid.uuid4()), "labels": labels},
        "spec": {"containers": [{"name": container, "image": "i"}]},
        "status": {"phase": "Running", "containerStatuses": [status]},
    }


def _terminated(pod: dict[str, Any], code: int) -> None:
    state = pod["status"]["containerStatuses"][0]["state"]
    if "terminated" not in state:
        state.clear()
        code = code if code >= 0 else 128 - code
        state["terminated"] = {"exitCode": code, "reason": "Error" if code else "Completed", "finishedAt": _now()}
        pod["status"]["phase"] = "Failed" if code else "Succeeded"


def _over(job: dict[str, Any], kind: str, reason: str, message: str) -> None:
    condition = {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": _now()}
    job["status"]["conditions"] = [condition]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _read(pod: Pod) -> None:
    assert pod.process and pod.process.stdout
    for raw in pod.process.stdout:
        seconds, fraction = divmod(time.time_ns(), 10**9)
        stamp = datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
        pod.lines.append(f"{stamp}.{fraction:09d}Z {raw.decode(errors='replace')}")
    pod.process.wait()
    pod.complete = True
