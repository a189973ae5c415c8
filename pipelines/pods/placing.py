"""Settings applied to the pipeline's tasks while it is compiled, with kfp-kubernetes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl, kubernetes

from components.shared.images import ROLES, image
from components.shared.sharding import MERGES
from components.training.trainjob.nodes import FIELD_PATHS, Nodes
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

    def apply(self, task: dsl.PipelineTask, step: str, merges: int = 0) -> dsl.PipelineTask:
        """Put the step's pod settings on its task. One that `merges` what so many shards made gets no GPU."""
        section, pods, overridden = self._pods(task, step)
        beside_gpus = bool(merges and pods.gpu_count)
        if beside_gpus:
            task.set_env_variable(MERGES, str(merges))
            pods = self._merging(pods)
        if self._on_nodes(step):
            section, pods, overridden = "light_pods", self._launching(task, pods), {}
        memory = self._value(f"{section}.memory", pods.memory, "memory" in overridden)
        task.set_cpu_request(pods.cpu).set_memory_request(memory).set_memory_limit(memory)
        task.set_retry(pods.retries, f"{pods.retry_wait}s", pods.retry_factor, f"{pods.retry_wait_max}s")
        if not self._on_nodes(step):  # a TrainJob has its own, and may wait in a queue before that begins
            kubernetes.set_timeout(task, pods.timeout)
        self._schedule(task, section, pods, overridden, beside_gpus)
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
        role = _role(task)
        section = f"{role}_pods"
        pods, overridden = self._with_overrides(section, step)
        name = f"cluster.step_overrides: {step}.gpu_count" if "gpu_count" in overridden else f"{section}.gpu_count"
        self._check_gpus(name, role, pods.gpu_count)
        if pods.gpu_count == 0:
            task.set_container_image(image(role, cpu=True))
        return section, pods, overridden

    def _with_overrides(self, section: str, step: str) -> tuple[PodSettings, dict[str, str]]:
        base: PodSettings = getattr(self.settings, section)
        overridden = overrides_of(self.settings.cluster.step_overrides, step)
        return type(base).model_validate({**base.model_dump(), **overridden}), overridden

    def _on_nodes(self, step: str) -> bool:
        return step in ("training", "warmup") and self.settings.training_pods.num_nodes > 1

    def _launching(self, task: dsl.PipelineTask, pods: PodSettings) -> PodSettings:
        """Of a pod that starts a TrainJob and waits for it: a light one's, tried again as training is."""
        task.set_container_image(image("training", cpu=True))
        for name, path in FIELD_PATHS.items():
            kubernetes.use_field_path_as_env(task, name, path)
        names = ("retries", "retry_wait", "retry_factor", "retry_wait_max")
        return self.settings.light_pods.model_copy(update={name: getattr(pods, name) for name in names})

    def _merging(self, pods: PodSettings) -> PodSettings:
        """Of a pod that merges what shards made: a light one's, on their nodes and in their image.

        The key of what it looks for names the engines' versions, and those of the image's CPU variant are others.
        """
        light = self.settings.light_pods
        names = ("cpu", "memory", "shared_memory")
        return pods.model_copy(update={"gpu_count": 0, **{name: getattr(light, name) for name in names}})

    def nodes(self, step: str) -> dict[str, Any]:
        """What the task of training, or of a warm-up, is told of a TrainJob's nodes: compiled in, and what the run sets.

        Empty where it has none.
        """
        if not self._on_nodes(step):
            return {}
        cluster, section = self.settings.cluster, "training_pods"
        pods, overridden = self._with_overrides(section, step)
        nodes = Nodes(
            count=self.settings.training_pods.num_nodes,
            runtime=cluster.training_runtime,
            image=image("training", cpu=not pods.gpu_count),
            cpu=pods.cpu,
            memory=pods.memory,
            gpu_count=pods.gpu_count,
            gpu_type=cluster.gpu_type,
            node_selector=pairs(pods.node_selector),
            tolerations=tuple(toleration(taint) for taint in pods.tolerations),
            shared_memory=pods.shared_memory,
            scratch=pods.scratch,
            timeout=pods.timeout,
            queue=pods.queue,
            labels=pairs(pods.labels),
            image_pull_secrets=cluster.image_pull_secrets,
            run_as_user=cluster.run_as_user,
            store_secret=cluster.store_secret,
            store_secret_keys=_STORE_KEYS,
            store_config=cluster.store_config,
            store_config_keys=_STORE_CONFIG,
        )
        set_by_run = {
            "memory": self._value(f"{section}.memory", "", "memory" in overridden),
            "node_selector": self._value(f"{section}.node_selector", {}, "node_selector" in overridden),
            "store_secret": self._value("cluster.store_secret", ""),
        }
        if pods.gpu_count:
            taints = [toleration(taint) for taint in cluster.gpu_tolerations]
            set_by_run |= {
                "gpu_type": self._value("cluster.gpu_type", ""),
                "gpu_tolerations": self._value("cluster.gpu_tolerations", taints),
            }
        return {"nodes": nodes.model_dump_json(), **set_by_run}

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

    def _schedule(
        self, task: dsl.PipelineTask, section: str, pods: PodSettings, overridden: dict[str, str], beside_gpus: bool
    ) -> None:
        cluster = self.settings.cluster
        selector = self._value(f"{section}.node_selector", pairs(pods.node_selector), "node_selector" in overridden)
        if selector != {}:
            kubernetes.add_node_selector_json(task, selector)
        kubernetes.add_toleration_json(task, [toleration(taint) for taint in pods.tolerations])
        if pods.gpu_count:
            gpu_type = self._value("cluster.gpu_type", cluster.gpu_type)
            task.set_accelerator_type(gpu_type)
            if gpu_type is not cluster.gpu_type:  # KFP forgets to hand it into a loop
                task.register_pipeline_channels([gpu_type])
            task.set_accelerator_limit(str(pods.gpu_count))
        if pods.gpu_count or beside_gpus:
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


def _role(task: dsl.PipelineTask) -> str:
    """Whose image the task's component names."""
    assert task.container_spec is not None
    return next(role for role in ROLES if task.container_spec.image == image(role))


def _same(names: tuple[str, ...]) -> dict[str, str]:
    return {name: name for name in names}


Place = Callable[..., dsl.PipelineTask]


def placer(settings: RunSettings, cluster: bool, inputs: dict[str, Any]) -> Place:
    """What is done to every task, given its step, its name in the UI, and how many shards it merges, if it does."""
    pods = Placement(settings, inputs) if cluster else None

    def place(task: dsl.PipelineTask, step: str, display_name: str, merges: int = 0) -> dsl.PipelineTask:
        # without KFP's caching: its key knows names, not contents. Ours is the ledger.
        task.set_display_name(display_name).set_caching_options(False)
        if pods:
            return pods.apply(task, step, merges)
        if getattr(settings, f"{_role(task)}_pods").gpu_count == 0:
            task.set_container_image(image(_role(task), cpu=True))  # for a run in containers
        return task

    return place


def training_nodes(settings: RunSettings, cluster: bool, inputs: dict[str, Any], step: str) -> dict[str, Any]:
    """The arguments about a TrainJob's nodes, by name, of the task `step`; none where it trains in its own pod."""
    return Placement(settings, inputs).nodes(step) if cluster else {}
