"""The nodes of a GPU pool, by the Kubernetes API, where the service account may list nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_SECONDS = 10  # that the API is waited for
_MEMORY_LABEL = "nvidia.com/gpu.memory"  # MiB of one GPU, by NVIDIA's GPU feature discovery


class Node(NamedTuple):
    """A node that a pod may run on: its GPUs, and GiB of one of them (0: not known)."""

    name: str
    gpus: int
    gpu_memory: float


class Unknown(RuntimeError):
    """The nodes cannot be listed; the message says why."""


def list_nodes(gpu_type: str, selector: Mapping[str, str], tolerated: Sequence[Mapping[str, str]]) -> list[Node]:
    """The nodes with a label for each of `selector` and no taint but those tolerated. Raises Unknown if it may not ask."""
    from kubernetes import client, config
    from kubernetes.client.exceptions import ApiException

    try:
        config.load_config()
        labels = ",".join(f"{key}={value}" for key, value in selector.items())
        found = client.CoreV1Api().list_node(label_selector=labels, _request_timeout=_SECONDS).items
    except ApiException as error:
        raise Unknown(f"the Kubernetes API answers {error.status} {error.reason}") from error
    except Exception as error:  # no cluster here, or one that does not answer: errors of several libraries
        raise Unknown(f"the Kubernetes API cannot be asked ({type(error).__name__})") from error
    return [_node(item, gpu_type) for item in found if not item.spec.unschedulable and _tolerates(item, tolerated)]


def _node(item: Any, gpu_type: str) -> Node:
    memory = int((item.metadata.labels or {}).get(_MEMORY_LABEL, 0)) / 1024
    return Node(item.metadata.name, int((item.status.allocatable or {}).get(gpu_type, 0)), memory)


def _tolerates(item: Any, tolerated: Sequence[Mapping[str, str]]) -> bool:
    repelling = [taint for taint in item.spec.taints or () if taint.effect in ("NoSchedule", "NoExecute")]
    return all(any(_fits(taint, toleration) for toleration in tolerated) for taint in repelling)


def _fits(taint: Any, toleration: Mapping[str, str]) -> bool:
    same = toleration.get("key") == taint.key and toleration.get("effect", taint.effect) == taint.effect
    return same and (toleration["operator"] == "Exists" or toleration.get("value", "") == (taint.value or ""))
