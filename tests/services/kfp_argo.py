"""A run's nodes as KFP 2.17 tells them: Argo's, for a compiled pipeline's tasks one after another."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Iterator
from typing import Any

from kfp_server_api.models import V2beta1PipelineTaskDetail

NOT_YET = datetime.datetime(1, 1, 1, tzinfo=datetime.UTC)
_STEP = datetime.timedelta(minutes=1)
_IN_ANY_CASE = "ALL_UPSTREAM_TASKS_COMPLETED"  # an exit handler


class Workflow:
    """Walks through the tasks, a tick each: `fail` names the task (the nth of its name) whose container fails."""

    def __init__(
        self, run_id: str, spec: dict[str, Any], fail: str = "", nth: int = 1, in_driver: bool = False
    ) -> None:
        self.run_id, self.spec, self.nodes = run_id, spec, list[V2beta1PipelineTaskDetail]()
        self.fail, self.nth, self.in_driver = fail, nth, in_driver
        self.now = datetime.datetime(2026, 11, 22, 3, 0, tzinfo=datetime.UTC)
        self.failed, self.state, self._walk = False, "PENDING", self._dag("root", spec["root"]["dag"])

    def tick(self) -> None:
        """One task further on."""
        if self.state in ("PENDING", "RUNNING"):
            self.state = "RUNNING"
            next(self._walk, None)

    def _dag(self, name: str, dag: dict[str, Any]) -> Iterator[None]:
        self._end(self._begin(f"{name}-driver"), "SUCCEEDED")
        group = self._begin(name)
        for key in _in_order(dag["tasks"]):
            inside = self.spec["components"][dag["tasks"][key]["componentRef"]["name"]]
            if self.failed and dag["tasks"][key].get("triggerPolicy", {}).get("strategy") != _IN_ANY_CASE:
                continue
            if "parameterIterator" in dag["tasks"][key]:
                yield from self._loop(dag["tasks"][key], key, inside["dag"])
            else:
                yield from self._dag(key, inside["dag"]) if "dag" in inside else self._container(key)
        self._end(group, "FAILED" if self.failed else "SUCCEEDED")
        if name == "root":
            self.state = "FAILED" if self.failed else "SUCCEEDED"

    def _loop(self, task: dict[str, Any], key: str, dag: dict[str, Any]) -> Iterator[None]:
        group = self._begin(key)
        self.failed = self.in_driver and key == self.fail
        self._end(self._begin("iteration-driver"), "FAILED" if self.failed else "SUCCEEDED")
        items = [] if self.failed else json.loads(task["parameterIterator"]["items"]["raw"])
        for index in range(len(items)):
            iteration = self._begin(f"iteration-iterations({index}:{index})")
            yield from self._dag("iteration-item", dag)
            self._end(iteration, "FAILED" if self.failed else "SUCCEEDED")
        self._end(group, "FAILED" if self.failed else "SUCCEEDED")

    def _container(self, key: str) -> Iterator[None]:
        self.nth -= key == self.fail
        fails = key == self.fail and self.nth == 0
        self._end(self._begin(f"{key}-driver"), "FAILED" if fails and self.in_driver else "SUCCEEDED")
        if fails and self.in_driver:
            self.failed = True
            return
        nodes = [self._begin(key), self._begin("executor"), self._begin("executor(0)")]
        yield
        for node in nodes:
            self._end(node, "FAILED" if fails else "SUCCEEDED")
        self.failed |= fails

    def _begin(self, name: str) -> V2beta1PipelineTaskDetail:
        self.now += _STEP
        node = V2beta1PipelineTaskDetail(
            run_id=self.run_id, task_id=str(uuid.uuid4()), display_name=name, state="RUNNING",
            create_time=self.now, start_time=self.now, end_time=NOT_YET,
        )  # fmt: skip
        self.nodes.append(node)
        return node

    def _end(self, node: V2beta1PipelineTaskDetail, state: str) -> None:
        self.now += _STEP
        node.state, node.end_time = state, self.now


def _in_order(tasks: dict[str, Any]) -> list[str]:
    """Every task after those it depends on."""
    order: list[str] = []
    while len(order) < len(tasks):
        order += [
            key for key, task in tasks.items() if key not in order and set(task.get("dependentTasks", ())) <= set(order)
        ]
    return order
