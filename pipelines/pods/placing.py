"""Settings applied to the pipeline's tasks while it is compiled, with kfp-kubernetes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl, kubernetes

from components.shared.images import ROLES, image
from pipelines.closing.notice import SECRET_KEYS
from pipelines.pods.inputs import POD_INPUTS
from pipelines.pods.settings import PodSettings, overrides_of, pairs, toleration
from pipelines.settings import RunSettings, SettingsError

PART_OF = "deepvideo-r1"
_STORE_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_STORE_CONFIG = ("AWS_ENDPOINT_URL", "AWS_REGION")
_TRACKING_KEYS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
_HUB_KEYS = ("HF_TOKEN",)


class Placement:
    """Where and how tasks run. `inputs` are the pipeline's channels for what a run sets, by input name."""

    def __init__(self, settings: RunSettings, inputs: Mapping[str, Any]) -> None:
        self.settings = settings
        self.inputs = inputs

    def apply(self, task: dsl.PipelineTask, step: str) -> dsl.PipelineTask:
        """Put the step's pod settings on its task."""
        section, pods, overridden = self._pods(task, step)
        memory = self._value(f"{section}.memory", pods.memory, "memory" in overridden)
        task.set_cpu_request(pods.cpu).set_memory_request(memory).set_memory_limit(memory)
        task.set_retry(pods.retries, f"{pods.retry_wait}s", pods.retry_factor, f"{pods.retry_wait_max}s")
        kubernetes.set_timeout(task, pods.timeout)
        self._schedule(task, section, pods, overridden)
        kubernetes.empty_dir_mount(task, "scratch", "/scratch", size_limit=pods.scratch)
        if pods.shared_memory:
            kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=pods.shared_memory)
        user = self.settings.cluster.run_as_user
        kubernetes.set_security_context(task, run_as_user=user, run_as_group=user, run_as_non_root=True)
        self._label(task, step, pods)
        self._environment(task, step)
        if self.settings.cluster.image_pull_secrets:
            kubernetes.set_image_pull_secrets(task, list(self.settings.cluster.image_pull_secrets))
        return task

    def _pods(self, task: dsl.PipelineTask, step: str) -> tuple[str, PodSettings, dict[str, str]]:
        """The section for the task's image, its settings with those of the step laid upon them, and the latter."""
        assert task.container_spec is not None
        role = next(role for role in ROLES if task.container_spec.image == image(role))
        section = f"{role}_pods"
        base: PodSettings = getattr(self.settings, section)
        overridden = overrides_of(self.settings.cluster.step_overrides, step)
        pods = PodSettings.model_validate({**base.model_dump(), **overridden})
        name = f"cluster.step_overrides: {step}.gpu_count" if "gpu_count" in overridden else f"{section}.gpu_count"
        self._check_gpus(name, role, pods.gpu_count)
        if pods.gpu_count == 0:
            task.set_container_image(image(role, cpu=True))
        return section, pods, overridden

    def _check_gpus(self, name: str, role: str, count: int) -> None:
        """Raises SettingsError if a pod has other GPUs than its step uses."""
        training, generation = self.settings.training, self.settings.generation
        users = {
            "light": ("the light image", 0),
            "generation": ("generation.tensor_parallel_size", generation.tensor_parallel_size),
            "training": ("training.nproc_per_node", training.nproc_per_node),
        }
        user, uses = users[role]
        if count not in (0, uses):
            raise SettingsError(f"{name}: is {count}, but {user} uses {uses}; make them equal, or 0 for CPUs alone")

    def _value(self, setting: str, compiled_in: Any, overridden: bool = False) -> Any:
        """The channel of the input that stands for a setting, or its value if there is none or the step has its own."""
        name = next((name for name, path in POD_INPUTS.items() if path == setting), "")
        return compiled_in if overridden else self.inputs.get(name, compiled_in)

    def _schedule(self, task: dsl.PipelineTask, section: str, pods: PodSettings, overridden: dict[str, str]) -> None:
        cluster = self.settings.cluster
        selector = self._value(f"{section}.node_selector", pairs(pods.node_selector), "node_selector" in overridden)
        if selector != {}:
            kubernetes.add_node_selector_json(task, selector)
        kubernetes.add_toleration_json(task, [toleration(taint) for taint in pods.tolerations])
        if pods.gpu_count:
            task.set_accelerator_type(self._value("cluster.gpu_type", cluster.gpu_type))
            task.set_accelerator_limit(str(pods.gpu_count))
            taints = [toleration(taint) for taint in cluster.gpu_tolerations]
            kubernetes.add_toleration_json(task, self._value("cluster.gpu_tolerations", taints))

    def _label(self, task: dsl.PipelineTask, step: str, pods: PodSettings) -> None:
        labels = {"app.kubernetes.io/part-of": PART_OF, "app.kubernetes.io/component": step, **pairs(pods.labels)}
        if pods.queue:
            labels["kueue.x-k8s.io/queue-name"] = pods.queue
        for key, value in labels.items():
            kubernetes.add_pod_label(task, key, value)

    def _environment(self, task: dsl.PipelineTask, step: str) -> None:
        cluster = self.settings.cluster
        store = self._value("cluster.store_secret", cluster.store_secret)
        kubernetes.use_secret_as_env(task, store, _same(_STORE_KEYS), optional=True)
        kubernetes.use_config_map_as_env(task, cluster.store_config, _same(_STORE_CONFIG), optional=True)
        kubernetes.use_secret_as_env(task, cluster.tracking_secret, _same(_TRACKING_KEYS), optional=True)
        if step in ("validation", "ingest"):
            kubernetes.use_secret_as_env(task, cluster.hub_secret, _same(_HUB_KEYS), optional=True)
        if step == "closing":
            kubernetes.use_secret_as_env(task, cluster.notification_secret, _same(SECRET_KEYS), optional=True)


def _same(names: tuple[str, ...]) -> dict[str, str]:
    return {name: name for name in names}


Place = Callable[[dsl.PipelineTask, str, str], dsl.PipelineTask]


def placer(settings: RunSettings, cluster: bool, inputs: dict[str, Any]) -> Place:
    """What is done to every task, given its step and its name in the UI."""
    pods = Placement(settings, inputs) if cluster else None

    def place(task: dsl.PipelineTask, step: str, display_name: str) -> dsl.PipelineTask:
        # without KFP's caching: its key knows names, not contents. Ours is the ledger.
        task.set_display_name(display_name).set_caching_options(False)
        return pods.apply(task, step) if pods else task

    return place
