"""Recurring runs in KFP: no catch-up, one run at a time, a name once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.triggers.client import Cluster
from pipelines.triggers.errors import ClusterError
from pipelines.triggers.versions import Version, named

_PAGE = 100


@dataclass(frozen=True)
class Schedule:
    """What a recurring run is made from; `cron` has six fields, in the scheduler's zone."""

    name: str
    description: str
    cron: str
    experiment: str
    version: Version
    parameters: dict[str, Any]
    service_account: str


def list_all(cluster: Cluster, name: str = "") -> list[Any]:
    """KFP's recurring runs, all of them or those of one name."""
    found: list[Any] = []
    token = ""
    while True:
        with cluster.asking("listing recurring runs"):
            page = cluster.client.list_recurring_runs(
                token, _PAGE, namespace=cluster.namespace, filter=named(name) if name else None
            )
        found += page.recurring_runs or []
        token = page.next_page_token or ""
        if not token:
            return found


def find(cluster: Cluster, name: str) -> Any:
    """The recurring run of this name. Raises ClusterError if there is none, or more than one."""
    found = list_all(cluster, name)
    if len(found) == 1:
        return found[0]
    if found:
        raise ClusterError(f"schedule {name!r}: there are {len(found)} of that name; delete all but one in KFP's UI")
    known = ", ".join(sorted(job.display_name for job in list_all(cluster)))
    raise ClusterError(f"schedule {name!r}: there is none; there are {known or 'no recurring runs at all'}")


def refuse_taken(cluster: Cluster, name: str) -> None:
    """Raise ClusterError if there is a recurring run of this name."""
    if list_all(cluster, name):
        raise ClusterError(f"schedule {name!r}: there is one; `deepvideo schedule replace` puts this in its place")


def create(cluster: Cluster, schedule: Schedule, enabled: bool = True) -> Any:
    """The new recurring run. Raises ClusterError if there is one of that name."""
    refuse_taken(cluster, schedule.name)
    return _create(cluster, schedule, enabled)


def replace(cluster: Cluster, schedule: Schedule) -> Any:
    """The recurring run in place of the one of its name, paused if that was.

    KFP cannot change one. The new one is switched on only when the old is gone: at no time do both start runs.
    """
    old = find(cluster, schedule.name)
    new = _create(cluster, schedule, enabled=False)
    with cluster.asking(f"replacing schedule {schedule.name!r}"):
        cluster.client.delete_recurring_run(old.recurring_run_id)
        if is_enabled(old):
            cluster.client.enable_recurring_run(new.recurring_run_id)
        return cluster.client.get_recurring_run(new.recurring_run_id)


def is_enabled(job: Any) -> bool:
    """Whether it starts runs."""
    return bool(job.status == "ENABLED" or job.mode == "ENABLE")


def _create(cluster: Cluster, schedule: Schedule, enabled: bool) -> Any:
    with cluster.asking(f"making schedule {schedule.name!r}"):
        experiment = cluster.client.create_experiment(schedule.experiment, namespace=cluster.namespace)
        return cluster.client.create_recurring_run(
            experiment.experiment_id,
            schedule.name,
            description=schedule.description,
            cron_expression=schedule.cron,
            max_concurrency=1,
            no_catchup=True,
            params=schedule.parameters,
            pipeline_id=schedule.version.pipeline_id,
            version_id=schedule.version.version_id,
            enabled=enabled,
            service_account=schedule.service_account,
        )
