"""Waiting for a run, task by task."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from pipelines.triggers.client import Cluster
from pipelines.triggers.errors import ClusterError, ClusterRunFailed
from pipelines.triggers.tasks import ENDED, FAILED, RUNNING, SUCCEEDED, Task, read_tasks

_PATIENCE = 600.0  # seconds that the API may be away
_SIGNS = {SUCCEEDED: "[green]✓[/green]", FAILED: "[red]✗[/red]", RUNNING: "[blue]▸[/blue]"}


def wait(cluster: Cluster, run_id: str, spec: Mapping[str, Any], console: Console, interval: float) -> None:
    """Print each task as it starts and ends, until the run has ended. Asks every `interval` seconds.

    Raises ClusterRunFailed, which names the tasks at fault, if it did not succeed; ClusterError if KFP refuses, or
    cannot be reached for ten minutes. The run goes on in either case.
    """
    shown: dict[tuple[str, Any], str] = {}
    answered = time.monotonic()
    with console.status("waiting for the first task") as status:
        while True:
            try:
                with cluster.asking(f"run {run_id}"):
                    run = cluster.client.get_run(run_id)
                answered = time.monotonic()
            except ClusterError as error:
                if not _may_pass(error) or time.monotonic() - answered > _PATIENCE:
                    raise
                status.update("KFP does not answer; asking again")
            else:
                tasks = read_tasks(run, spec)
                for task in tasks:
                    if shown.get((task.title, task.started)) != task.state:
                        shown[(task.title, task.started)] = task.state
                        _show(task, console)
                if run.state in ENDED:
                    break
                status.update(", ".join(task.title for task in tasks if task.state == RUNNING) or "between two tasks")
            time.sleep(interval)
    if run.state != SUCCEEDED:
        raise ClusterRunFailed(_failure(run, tasks))


def _show(task: Task, console: Console) -> None:
    if task.state in _SIGNS:
        took = f"{_duration(task.seconds)}" if task.state != RUNNING else ""
        console.print(f"{_SIGNS[task.state]} {task.title:<40} {took}".rstrip(), highlight=False)


def _failure(run: Any, tasks: list[Task]) -> str:
    """What ended the run, the failing tasks first."""
    failed = "; ".join(dict.fromkeys(task.title for task in tasks if task.state == FAILED))
    ended = {FAILED: "failed", "CANCELED": "was terminated"}.get(run.state, f"ended as {run.state}")
    words = f"The run {ended}: {failed}" if failed else f"The run {ended}"
    message = run.error.message if run.error else ""
    return f"{words} ({message})" if message else words


def _may_pass(error: ClusterError) -> bool:
    """Whether asking again may help: a connection that broke, or trouble inside the server."""
    status = int(getattr(error.__cause__, "status", 0) or 500)
    return status >= 500 or status == 429


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
