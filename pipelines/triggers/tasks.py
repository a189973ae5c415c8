"""The tasks of a run as KFP's API tells them: Argo's nodes, whose names are those of the compiled pipeline's tasks.

The API gives a flat list: a node for each task, for its driver, for its container ("executor") and for each round. What
lies in which round follows from the times, since rounds run one after another. The shards of a step are told apart by
their times alone: which node is which shard the API does not say.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.closing.group import is_closed_group

_DRIVER, _LOOPS_DRIVER = "-driver", "iteration-driver"
_ROUND, _LOOP = "round", "loop"  # what has tasks inside
SUCCEEDED, FAILED, SKIPPED, RUNNING = "SUCCEEDED", "FAILED", "SKIPPED", "RUNNING"
ENDED = {SUCCEEDED, FAILED, SKIPPED, "CANCELED"}


@dataclass(frozen=True)
class Task:
    """A task of the pipeline: `title` as the UI shows it, with its round; `seconds` it took, 0 while it runs."""

    title: str
    state: str
    started: datetime.datetime
    seconds: float


def read_tasks(run: Any, spec: Mapping[str, Any]) -> list[Task]:
    """The run's tasks that have begun, the earliest first. `spec` is its compiled pipeline.

    A task whose driver failed counts as failed: its container never started.
    """
    titles = {key: (title, kind) for key, title, kind in _titles(spec)}
    told = run.run_details.task_details if run.run_details else None
    details = [item for item in told or () if item.display_name and item.start_time]
    groups = [item for item in details if titles.get(item.display_name, ("", ""))[1] == _ROUND]
    tasks = []
    for item in details:
        key = item.display_name
        stem = _loop_around(item, details, titles) if key == _LOOPS_DRIVER else key.removesuffix(_DRIVER)
        if stem not in titles or (key != stem and item.state != FAILED):
            continue
        title, kind = titles[stem]
        if kind and key == stem:
            continue
        if key != stem:
            title += " (its driver: the container never started)"
        around = [group for group in groups if group is not item and _covers(group, item)] if key in titles else []
        if around and kind != _ROUND:
            title += f", {titles[max(around, key=lambda group: group.start_time).display_name][0]}"
        ended = item.end_time if item.state in ENDED and _real(item.end_time) else None
        tasks.append(Task(title, item.state or "", item.start_time, _seconds(item.start_time, ended)))
    return sorted(tasks, key=lambda task: task.started)


def _titles(spec: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(name in the compiled pipeline, title, kind) of each task; empty kind: it has no tasks inside.

    The group that the exit handler closes is the run itself, and has no title.
    """
    components = spec["components"]
    for part in [spec["root"], *components.values()]:
        for key, task in part.get("dag", {}).get("tasks", {}).items():
            if not is_closed_group(task):
                inside = "dag" in components[task["componentRef"]["name"]]
                yield (
                    key,
                    task["taskInfo"]["name"],
                    (_LOOP if "parameterIterator" in task else _ROUND) if inside else "",
                )


def _loop_around(item: Any, details: Sequence[Any], titles: Mapping[str, tuple[str, str]]) -> str:
    """The name of the loop that began last before a node in it did; empty if there is none."""
    around = [
        group for group in details if titles.get(group.display_name, ("", ""))[1] == _LOOP and _covers(group, item)
    ]
    return max(around, key=lambda group: group.start_time).display_name if around else ""


def _covers(group: Any, item: Any) -> bool:
    """Whether a task began while a group of tasks was at work."""
    return bool(
        group.start_time <= item.start_time and (not _real(group.end_time) or item.start_time <= group.end_time)
    )


def _real(moment: datetime.datetime | None) -> bool:
    """KFP writes year 1 for "not yet"."""
    return moment is not None and moment.year > 1970


def _seconds(start: datetime.datetime, end: datetime.datetime | None) -> float:
    return (end - start).total_seconds() if end else 0.0
