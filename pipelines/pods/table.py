"""What a compiled pipeline asks Kubernetes for, step by step, read back from its IR: what the cluster will see."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from components.shared.images import LOCAL_REGISTRY
from components.training.trainjob.nodes import Nodes
from pipelines.closing.group import is_closed_group
from pipelines.pods.reading import read_ir

_CHANNEL = re.compile(r"\{\{\$\.inputs\.parameters\['(.+)'\]\}\}")
_SHM = "/dev/shm"


class Given(NamedTuple):
    """A value in the IR, and the run input that it is the default of (empty: it is compiled in)."""

    value: Any
    run_input: str = ""


class Pod(NamedTuple):
    """A row: the pods of one task, in all rounds alike. Texts as Kubernetes writes them, empty where nothing is asked."""

    task: str
    image: str
    cpu: str
    memory: Given
    gpus: str
    gpu_type: Given
    node_selector: Given
    tolerations: Given
    shared_memory: str
    timeout: int  # seconds
    retries: str
    secrets: list[Given]
    labels: dict[str, str]


def read_pods(ir: Path) -> list[Pod]:
    """The rows of a compiled pipeline in the order in which its tasks run; rounds that are equal give their rows once."""
    spec, pods = read_ir(ir)
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    scope = {name: Given(item.get("defaultValue"), name) for name, item in inputs.items()}
    rows = []
    for name, task, label, known in _tasks(spec, spec["root"]["dag"]["tasks"], scope, ""):
        container = spec["deploymentSpec"]["executors"][label]["container"]
        rows.append(_row(name, task, container, pods.get(label, {}), known))
        if compiled := known.get("nodes", Given("")).value:
            rows.append(_node_row(name, Nodes.model_validate_json(compiled), known))
    merged: dict[Any, list[str]] = {}
    for row in rows:
        merged.setdefault(repr((_outside_rounds(row.task), row[1:])), []).append(row.task)
    first = {names[0]: names for names in merged.values()}
    return [row._replace(task=_all_rounds(first[row.task])) for row in rows if row.task in first]


def _tasks(
    spec: Any, tasks: Mapping[str, Any], scope: Mapping[str, Given], above: str
) -> Iterator[tuple[str, Any, str, Mapping[str, Given]]]:
    """(name, task, executor, the values it knows by the name of its inputs) of every task that is a pod."""
    after = {key: task.get("dependentTasks", ()) for key, task in tasks.items()}
    for task in map(tasks.__getitem__, TopologicalSorter(after).static_order()):
        name = f"{above}{task['taskInfo']['name']}"
        given = task.get("inputs", {}).get("parameters", {})
        known = {key: _resolve(item, scope) for key, item in given.items()}
        component = spec["components"][task["componentRef"]["name"]]
        if "dag" in component:
            inside = component["dag"]["tasks"]
            if is_closed_group(task):
                yield from _tasks(spec, inside, {**scope, **known}, above)
            elif "parameterIterator" in task:  # a row for all of the loop's pods, under its name, which counts them
                for _, each, label, values in _tasks(spec, inside, {**scope, **known}, above):
                    yield name, each, label, values
            else:
                yield from _tasks(spec, inside, known, f"{name}: ")
        else:
            # what kfp-kubernetes refers to are names of the enclosing pipeline's inputs
            yield name, task, component["executorLabel"], {**scope, **known}


def _resolve(item: Mapping[str, Any], scope: Mapping[str, Given]) -> Given:
    if "componentInputParameter" in item:
        return scope.get(item["componentInputParameter"], Given(None))
    return Given(item.get("runtimeValue", {}).get("constant"))


def _row(name: str, task: Any, container: Any, pod: Any, known: Mapping[str, Given]) -> Pod:
    resources = container.get("resources", {})
    accelerator = resources.get("accelerator", {})
    selector = pod.get("nodeSelector", {})
    volumes = {item["mountPath"]: item.get("sizeLimit", "") for item in pod.get("emptyDirMounts", ())}
    retry = task.get("retryPolicy", {})
    return Pod(
        task=name,
        image=container["image"],
        cpu=_text(resources.get("resourceCpuRequest", ""), known).value,
        memory=_text(resources.get("resourceMemoryLimit", ""), known),
        gpus=accelerator.get("resourceCount", ""),
        gpu_type=_text(accelerator.get("resourceType", ""), known),
        node_selector=_resolve(selector["nodeSelectorJson"], known) if selector else Given({}),
        tolerations=_tolerations(pod.get("tolerations", ()), known),
        shared_memory=volumes.get(_SHM, ""),
        timeout=int(pod.get("activeDeadlineSeconds", 0)),
        retries=_retries(retry) if retry else "",
        secrets=[_resolve(item["secretNameParameter"], known) for item in pod.get("secretAsEnv", ())],
        labels=pod.get("podMetadata", {}).get("labels", {}),
    )


def _node_row(name: str, nodes: Nodes, known: Mapping[str, Given]) -> Pod:
    """The pods of the TrainJob that a training task starts."""

    def of(argument: str, compiled: Any) -> Given:
        """What the run sets if the task has it from one of the run's inputs, else what is compiled in."""
        given = known.get(argument, Given(None))
        return given if given.run_input else Given(compiled)

    taints = of("gpu_tolerations", known.get("gpu_tolerations", Given([])).value)
    return Pod(
        task=f"{name}, {nodes.count} nodes of a TrainJob",
        image=nodes.image,
        cpu=nodes.cpu,
        memory=of("memory", nodes.memory),
        gpus=str(nodes.gpu_count or ""),
        gpu_type=of("gpu_type", nodes.gpu_type),
        node_selector=of("node_selector", nodes.node_selector),
        tolerations=Given([*nodes.tolerations, *(taints.value or ())], taints.run_input),
        shared_memory=nodes.shared_memory,
        timeout=nodes.timeout,
        retries="",
        secrets=[of("store_secret", nodes.store_secret)],
        labels={**nodes.labels, **({"kueue.x-k8s.io/queue-name": nodes.queue} if nodes.queue else {})},
    )


def _text(text: str, known: Mapping[str, Given]) -> Given:
    """A text of a container's resources: as it is, or the input that it is taken from."""
    found = _CHANNEL.fullmatch(text)
    return known[found[1]] if found else Given(text)


def _tolerations(items: Any, known: Mapping[str, Given]) -> Given:
    """All tolerations as one list, and the input that some of them come from."""
    taints: list[Any] = []
    run_input = ""
    for item in items:
        given = _resolve(item["tolerationJson"], known) if "tolerationJson" in item else Given([item])
        taints += given.value
        run_input = run_input or given.run_input
    return Given(taints, run_input)


def _retries(policy: Any) -> str:
    waits = f"{policy['backoffDuration']} x{policy['backoffFactor']:g} up to {policy['backoffMaxDuration']}"
    return f"{policy['maxRetryCount']}, {waits}"


def _outside_rounds(task: str) -> str:
    return re.sub(r"^Round \d+: ", "Round: ", task)


def _all_rounds(names: list[str]) -> str:
    """One name for the same task in several rounds."""
    numbers = [int(found[1]) for name in names if (found := re.match(r"Round (\d+): ", name))]
    if len(numbers) < 2:
        return names[0]
    return re.sub(r"^Round \d+", f"Rounds {min(numbers)} to {max(numbers)}", names[0])


def print_pods(ir: Path, console: Console) -> None:
    """The table of a compiled pipeline; what a run can set is marked with a star."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("task", overflow="fold")
    table.add_column("image", no_wrap=True)  # to be compared, and copied
    for name in ("CPU", "memory", "GPUs", "nodes", "tolerates", "/dev/shm", "timeout", "retries"):
        table.add_column(name, overflow="fold")
    table.add_column("secrets", overflow="fold")
    inputs: set[str] = set()
    for pod in read_pods(ir):
        given = [pod.memory, pod.gpu_type, pod.node_selector, pod.tolerations, *pod.secrets]
        inputs |= {item.run_input for item in given if item.run_input}
        table.add_row(
            pod.task,
            pod.image.removeprefix(f"{LOCAL_REGISTRY}/"),
            pod.cpu,
            _shown(pod.memory, str(pod.memory.value)),
            f"{pod.gpus} {_shown(pod.gpu_type, pod.gpu_type.value)}" if pod.gpus else "",
            _shown(pod.node_selector, "\n".join(f"{key}={value}" for key, value in pod.node_selector.value.items())),
            _shown(pod.tolerations, "\n".join(map(_taint, pod.tolerations.value))),
            pod.shared_memory,
            f"{pod.timeout} s" if pod.timeout else "",
            pod.retries,
            "\n".join(_shown(secret, secret.value) for secret in pod.secrets),
        )
    console.print(table, markup=False)
    if inputs:
        console.print(f"* default of a run's input: {', '.join(sorted(inputs))}", highlight=False)


def _shown(given: Given, text: str) -> str:
    return f"{text}*" if given.run_input and text else text


def _taint(item: Mapping[str, str]) -> str:
    value = f"={item['value']}" if item.get("value") else ""
    return f"{item['key']}{value}:{item.get('effect', '')}"
