"""Settings of the pods that tasks run in on a cluster. A local run does not look at them.

Lists are written in kubectl's notation: labels and selectors as `key=value`, tolerations as the taint that is tolerated,
`key=value:effect` or `key:effect`.
"""

from __future__ import annotations

import re

from pydantic import ValidationError, field_validator

from components.shared.settings import StepSettings, setting

STEPS = (
    "validation",
    "ingest",
    "difficulty",
    "augmentation",
    "rollout",
    "sampling",
    "warmup",
    "training",
    "evaluation",
    "promotion",
    "report",
    "closing",
)
_NAME = r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?"
_KEY = r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-\w.]*[A-Za-z0-9])?"
_VALUE = r"([A-Za-z0-9]([-\w.]*[A-Za-z0-9])?)?"
_PAIR = re.compile(rf"{_KEY}={_VALUE}")
_TAINT = re.compile(rf"(?P<key>{_KEY})(=(?P<value>{_VALUE}))?:(?P<effect>NoSchedule|PreferNoSchedule|NoExecute)")
_CPU = r"^[0-9]+m?$|^[0-9]*\.[0-9]+$"
_BYTES = r"^[0-9]+(K|Ki|M|Mi|G|Gi|T|Ti)?$"
_BYTES_OR_NONE = r"^([0-9]+(K|Ki|M|Mi|G|Gi|T|Ti)?)?$"


class _Lists(StepSettings):
    """Settings whose lists are in kubectl's notation, which is checked."""

    @field_validator("node_selector", "labels", check_fields=False)
    @classmethod
    def _are_pairs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            if not _PAIR.fullmatch(item):
                raise ValueError(f"{item!r} is not key=value, such as nvidia.com/gpu.present=true")
        return value

    @field_validator("tolerations", "gpu_tolerations", check_fields=False)
    @classmethod
    def _are_taints(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            if not _TAINT.fullmatch(item):
                raise ValueError(f"{item!r} is not key=value:effect or key:effect, such as nvidia.com/gpu:NoSchedule")
        return value


class PodSettings(_Lists):
    """The pods of one image's steps."""

    cpu: str = setting("2", "CPUs that a pod asks for.", unit="CPUs", compiled=True, pattern=_CPU)
    memory: str = setting(
        "8Gi", "Memory that a pod asks for, and its limit.", unit="bytes", compiled=True, pattern=_BYTES
    )
    gpu_count: int = setting(0, "GPUs of a pod.", unit="GPUs", compiled=True, ge=0)
    node_selector: tuple[str, ...] = setting((), "Labels of the nodes that pods run on.", compiled=True)
    tolerations: tuple[str, ...] = setting((), "Taints that pods tolerate beside those of GPU nodes.", compiled=True)
    shared_memory: str = setting(
        "2Gi",
        "Size of /dev/shm, which counts as the pod's memory; empty: the node's 64 MiB.",
        unit="bytes",
        compiled=True,
        pattern=_BYTES_OR_NONE,
    )
    scratch: str = setting(
        "50Gi", "Disk for downloads and unfinished work at /scratch.", unit="bytes", compiled=True, pattern=_BYTES
    )
    timeout: int = setting(
        86400, "A pod that runs longer is ended and counts as failed.", unit="s", compiled=True, ge=1
    )
    retries: int = setting(2, "Times that a failed task is tried again.", unit="tries", compiled=True, ge=0)
    retry_wait: int = setting(60, "Wait before the first retry.", unit="s", compiled=True, ge=0)
    retry_factor: float = setting(2.0, "Each further wait is this much longer.", compiled=True, ge=1)
    retry_wait_max: int = setting(1800, "Longest wait before a retry.", unit="s", compiled=True, ge=0)
    queue: str = setting("", "Kueue LocalQueue that pods wait in; empty: none.", compiled=True, pattern=f"^{_NAME}$")
    labels: tuple[str, ...] = setting((), "Further labels of the pods.", compiled=True)


class TrainingPodSettings(PodSettings):
    """The pods of training: the step's own, or the nodes of a Kubeflow TrainJob that it starts."""

    num_nodes: int = setting(
        1,
        "Nodes that a round, or the warm-up, is trained on, each a pod as these settings say, with nproc_per_node"
        " processes: 1 is the step's own pod, more are a Kubeflow TrainJob's.",
        unit="nodes",
        compiled=True,
        ge=1,
    )


class ClusterSettings(_Lists):
    """What all pods have in common."""

    gpu_type: str = setting(
        "nvidia.com/gpu", "Resource name of a GPU, or of a MIG slice.", compiled=True, pattern=f"^{_KEY}$"
    )
    gpu_tolerations: tuple[str, ...] = setting(
        ("nvidia.com/gpu:NoSchedule",), "Taints of GPU nodes, which pods with GPUs tolerate.", compiled=True
    )
    gpus_per_node: int = setting(
        0,
        "GPUs of a pool's largest node, against which the first task checks gpu_count; 0: it asks the Kubernetes API.",
        unit="GPUs",
        compiled=True,
        ge=0,
    )
    gpu_memory: int = setting(
        0,
        "Memory of one GPU, against which the first task checks its estimates; 0: it asks the Kubernetes API.",
        unit="GiB",
        compiled=True,
        ge=0,
    )
    gpu_tflops: int = setting(
        312, "A GPU's dense bfloat16 peak, for the estimate of hours (A100: 312).", unit="TFLOP/s", compiled=True, ge=1
    )
    store_secret: str = setting(
        "deepvideo-store",
        "Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the artifact store; not needed with a cloud's own"
        " identity.",
        compiled=True,
        pattern=f"^{_NAME}$",
        min_length=1,
    )
    store_config: str = setting(
        "deepvideo-store",
        "ConfigMap with AWS_ENDPOINT_URL and AWS_REGION of the artifact store; may be missing.",
        compiled=True,
        pattern=f"^{_NAME}$",
        min_length=1,
    )
    tracking_secret: str = setting(
        "deepvideo-mlflow",
        "Secret with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; may be missing.",
        compiled=True,
        pattern=f"^{_NAME}$",
        min_length=1,
    )
    hub_secret: str = setting(
        "deepvideo-hub",
        "Secret with HF_TOKEN, for gated base models; validation and ingest alone get it; may be missing.",
        compiled=True,
        pattern=f"^{_NAME}$",
        min_length=1,
    )
    notification_secret: str = setting(
        "deepvideo-notification",
        "Secret with DEEPVIDEO_WEBHOOK_URL, DEEPVIDEO_SMTP_USERNAME, DEEPVIDEO_SMTP_PASSWORD; the run's last task alone"
        " gets it; may be missing.",
        compiled=True,
        pattern=f"^{_NAME}$",
        min_length=1,
    )
    training_runtime: str = setting(
        "deepvideo-torchrun",
        "ClusterTrainingRuntime that TrainJobs run in.",
        compiled=True,
        pattern=f"^{_NAME}$",
        min_length=1,
    )
    image_pull_secrets: tuple[str, ...] = setting((), "Secrets that images are pulled with.", compiled=True)
    run_as_user: int = setting(10001, "User id of every pod, never root.", compiled=True, ge=1)
    step_overrides: tuple[str, ...] = setting(
        (), "Pod settings of single steps, as STEP.FIELD=VALUE: `ingest.cpu=16`.", compiled=True
    )

    @field_validator("step_overrides")
    @classmethod
    def _name_steps_and_fields(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            step, field, _ = split_override(item)
            if step not in STEPS:
                raise ValueError(f"{item!r}: there is no step {step!r}; there are {', '.join(STEPS)}")
            if field not in PodSettings.model_fields:
                raise ValueError(f"{item!r}: no such setting; there are {', '.join(PodSettings.model_fields)}")
        for step in STEPS:
            try:
                PodSettings.model_validate(overrides_of(value, step))
            except ValidationError as error:
                wrong = error.errors()[0]
                raise ValueError(f"{step}.{wrong['loc'][0]}={wrong['input']}: {wrong['msg']}") from None
        return value


def split_override(text: str) -> tuple[str, str, str]:
    """(step, field, value) of `STEP.FIELD=VALUE`."""
    name, _, value = text.partition("=")
    step, _, field = name.partition(".")
    return step, field, value


def overrides_of(overrides: tuple[str, ...], step: str) -> dict[str, str]:
    """field -> value of what is overridden for `step`."""
    return {field: value for named, field, value in map(split_override, overrides) if named == step}


def pairs(items: tuple[str, ...]) -> dict[str, str]:
    """`key=value` items as a mapping."""
    return dict(item.split("=", 1) for item in items)


def toleration(taint: str) -> dict[str, str]:
    """The toleration of a taint in kubectl's notation, as Kubernetes writes it."""
    found = _TAINT.fullmatch(taint)
    assert found is not None, taint
    effect = {"key": found["key"], "effect": found["effect"]}
    if found["value"] is None:
        return {"operator": "Exists", **effect}
    return {"operator": "Equal", "value": found["value"], **effect}
