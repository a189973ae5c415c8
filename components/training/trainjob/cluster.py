"""The few requests to the Kubernetes API that a TrainJob takes, tried again while the API is away."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import tenacity
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from components.training.trainjob.manifest import GROUP, NODE, PLURAL, VERSION
from components.training.trainjob.nodes import Launcher, TrainJobError

PATIENCE = 600.0  # seconds that the API may be away
LAST_PATIENCE = 15.0  # for a deletion by a process that is being ended
_SECONDS = 30  # for one answer
_SILENCE = 300  # seconds without a line, after which a log is asked for anew
_BUSY = (429, 500, 502, 503, 504)
_REMEDIES = {
    401: "the pod's token is refused; is the service account still there?",
    403: "give the run's service account the rights in k8s/base/runner.yaml (trainjobs, pods, pods/log), or ask who runs the"
    " cluster what its admission refuses",
    404: "is Kubeflow Trainer 2.3 or later installed?",
    422: "is the ClusterTrainingRuntime the one in k8s/components/training-runtime, and Kubeflow Trainer 2.3 or later?",
}

Answer = TypeVar("Answer")


class Cluster:
    """TrainJobs and their pods in the launching pod's namespace."""

    def __init__(self, launcher: Launcher) -> None:
        try:
            config.load_config()
        except config.ConfigException as error:
            raise TrainJobError(f"there is no Kubernetes cluster to make a TrainJob in: {error}") from error
        self.launcher = launcher
        api = client.ApiClient()
        self._jobs, self._core = client.CustomObjectsApi(api), client.CoreV1Api(api)
        self._place = (GROUP, VERSION, launcher.namespace, PLURAL)

    def read(self, name: str, patience: float = PATIENCE) -> dict[str, Any] | None:
        """The TrainJob, None if there is none."""
        return _if_there(
            lambda: self._jobs.get_namespaced_custom_object(*self._place, name, _request_timeout=_SECONDS), patience
        )

    def create(self, job: dict[str, Any]) -> bool:
        """Whether it was made: false if there is one of that name."""
        try:
            _patiently(
                lambda: self._jobs.create_namespaced_custom_object(
                    *self._place, job, field_validation="Strict", _request_timeout=_SECONDS
                )
            )
        except ApiException as error:
            if error.status == 409:
                return False
            raise TrainJobError(f"TrainJob {job['metadata']['name']}: {told(error)}") from error
        return True

    def adopt(self, name: str) -> None:
        """Make the launching pod the TrainJob's owner: the pod of an earlier attempt may be deleted any time."""
        body = {"metadata": {"ownerReferences": [self.launcher.owner_reference]}}
        try:
            _patiently(
                lambda: self._jobs.patch_namespaced_custom_object(*self._place, name, body, _request_timeout=_SECONDS)
            )
        except ApiException as error:
            if error.status != 404:  # the next look at it finds it gone
                raise TrainJobError(f"TrainJob {name}: {told(error)}") from error

    def owns(self, job: dict[str, Any]) -> bool:
        """Whether the launching pod is the TrainJob's owner still."""
        return self.launcher.owner_reference in job["metadata"].get("ownerReferences", ())

    def delete(self, job: dict[str, Any], patience: float = LAST_PATIENCE) -> None:
        """Delete this very TrainJob (not another one of its name) with its pods; it is there until they are gone."""
        name, uid = job["metadata"]["name"], job["metadata"]["uid"]
        options = client.V1DeleteOptions(propagation_policy="Foreground", preconditions=client.V1Preconditions(uid=uid))

        def delete() -> Any:
            return self._jobs.delete_namespaced_custom_object(
                *self._place, name, body=options, _request_timeout=_SECONDS
            )

        try:
            _patiently(delete, patience)
        except ApiException as error:
            if error.status not in (404, 409):  # gone, or another one by now
                raise TrainJobError(f"TrainJob {name} cannot be deleted: {told(error)}") from error

    def pods(self, name: str) -> list[Any]:
        """The TrainJob's pods, a node each, in the nodes' order."""
        selector = f"jobset.sigs.k8s.io/jobset-name={name}"
        found = _patiently(
            lambda: self._core.list_namespaced_pod(
                self.launcher.namespace, label_selector=selector, _request_timeout=_SECONDS
            )
        )
        return sorted(found.items, key=lambda pod: (node_of(pod), pod.metadata.name))

    def pod(self, name: str) -> Any:
        """The pod, None if it is gone."""
        return _if_there(
            lambda: self._core.read_namespaced_pod(name, self.launcher.namespace, _request_timeout=_SECONDS)
        )

    def log(self, pod: str, since_seconds: int | None = None) -> Iterator[bytes]:
        """The pod's output as it comes, lines with a time stamp (RFC 3339) before them. Raises ApiException, HTTPError."""
        since = {"since_seconds": since_seconds} if since_seconds else {}
        answer = self._core.read_namespaced_pod_log(
            pod, self.launcher.namespace, container=NODE, follow=True, timestamps=True, **since,
            _preload_content=False, _request_timeout=(_SECONDS, _SILENCE),
        )  # fmt: skip
        try:
            yield from answer
        finally:
            answer.close()  # one that broke off must not be used for another request

    def last_lines(self, pod: str, count: int) -> str:
        """The end of the pod's output; why there is none, if so."""
        try:
            return _patiently(
                lambda: self._core.read_namespaced_pod_log(
                    pod, self.launcher.namespace, container=NODE, tail_lines=count, _request_timeout=_SECONDS
                )
            )
        except ApiException as error:
            return f"(its log cannot be read: {told(error)})"


def node_of(pod: Any) -> int:
    """The number of the node that a pod is, from 0."""
    labels = {**(pod.metadata.annotations or {}), **(pod.metadata.labels or {})}
    return int(labels.get("batch.kubernetes.io/job-completion-index", 0))


def told(error: ApiException) -> str:
    """What the API said, and the remedy."""
    try:
        said = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):  # a proxy's words
        said = error.body or error.reason
    remedy = f" ({_REMEDIES[error.status]})" if error.status in _REMEDIES else ""
    return f"the Kubernetes API answers {error.status}: {said}{remedy}"


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, HTTPError) or isinstance(error, ApiException) and error.status in _BUSY


def _patiently(request: Callable[[], Answer], patience: float = PATIENCE) -> Answer:
    """The answer. Raises ApiException for a refusal, TrainJobError where the API is away for longer than `patience`."""
    again = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_pass),
        stop=tenacity.stop_after_delay(patience),
        wait=tenacity.wait_exponential(multiplier=0.5, max=15),
        reraise=True,
    )
    try:
        return again(request)
    except HTTPError as error:
        raise TrainJobError(f"the Kubernetes API does not answer ({type(error).__name__}): {error}") from error


def _if_there(request: Callable[[], Answer], patience: float = PATIENCE) -> Answer | None:
    try:
        return _patiently(request, patience)
    except ApiException as error:
        if error.status == 404:
            return None
        raise TrainJobError(told(error)) from error
