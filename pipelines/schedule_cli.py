"""`deepvideo schedule`: recurring runs on a cluster."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipelines.options import Connection, RunInputs, grouped

if TYPE_CHECKING:
    from pipelines.triggers.client import Cluster
    from pipelines.triggers.schedules import Schedule

app = typer.Typer(
    help="Recurring runs on the cluster, one at a time, without catching up on those that were missed.",
    no_args_is_help=True,
)
console = Console()
_PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}

Name = Annotated[str, typer.Argument(help="The schedule's name.")]
Cron = Annotated[str, typer.Option(help="When: minute hour day month weekday, such as '0 3 * * mon'.")]
TimeZone = Annotated[str, typer.Option(help="Time zone that --cron is meant in.")]
SchedulerZone = Annotated[
    str,
    typer.Option(
        envvar="CRON_SCHEDULE_TIMEZONE", help="Time zone of KFP's scheduler: its CRON_SCHEDULE_TIMEZONE.",
    ),
]  # fmt: skip


@app.command()
@grouped
def create(
    name: Name,
    cron: Cron,
    inputs: RunInputs,
    connection: Connection,
    time_zone: TimeZone = "UTC",
    scheduler_time_zone: SchedulerZone = "UTC",
) -> None:
    """Make a schedule. `{date}` in --annotations and --videos is the day (UTC) that a run starts."""
    from pipelines.triggers import schedules

    look = schedules.refuse_taken
    cluster, schedule = _prepare(name, look, cron, inputs, connection, time_zone, scheduler_time_zone)
    made = schedules.create(cluster, schedule)
    _tell(cluster, schedule, made, "made")


@app.command()
@grouped
def replace(
    name: Name,
    cron: Cron,
    inputs: RunInputs,
    connection: Connection,
    time_zone: TimeZone = "UTC",
    scheduler_time_zone: SchedulerZone = "UTC",
) -> None:
    """Put a schedule in the place of the one of its name, which is deleted; nothing but whether it is paused is kept.

    A schedule stays with the pipeline version that it was made with: this is how it gets to a new one.
    """
    from pipelines.triggers import schedules

    look = schedules.find
    cluster, schedule = _prepare(name, look, cron, inputs, connection, time_zone, scheduler_time_zone)
    made = schedules.replace(cluster, schedule)
    _tell(cluster, schedule, made, "replaced")


@app.command("list")
@grouped
def list_schedules(connection: Connection) -> None:
    """List the schedules."""
    from pipelines.triggers.client import connect
    from pipelines.triggers.schedules import is_enabled, list_all

    cluster = connect(connection)
    table = Table("name", "state", "cron", "what", box=None)
    for job in sorted(list_all(cluster), key=lambda job: job.display_name):
        when = job.trigger.cron_schedule.cron if job.trigger and job.trigger.cron_schedule else "(an interval)"
        table.add_row(job.display_name, "on" if is_enabled(job) else "paused", when, job.description or "")
    console.print(table if table.row_count else "There are no schedules.")


@app.command()
@grouped
def pause(name: Name, connection: Connection) -> None:
    """Let a schedule start no more runs; one at work goes on."""
    _do("disable_recurring_run", "paused", name, connection)


@app.command()
@grouped
def resume(name: Name, connection: Connection) -> None:
    """Let a paused schedule go on; what it missed is not caught up on."""
    _do("enable_recurring_run", "on again", name, connection)


@app.command()
@grouped
def delete(name: Name, connection: Connection) -> None:
    """Delete a schedule; its runs stay."""
    _do("delete_recurring_run", "deleted", name, connection)


def _do(action: str, done: str, name: str, connection: Connection) -> None:
    from pipelines.triggers.client import connect
    from pipelines.triggers.schedules import find

    cluster = connect(connection)
    job = find(cluster, name)
    with cluster.asking(f"schedule {name!r}"):
        getattr(cluster.client, action)(job.recurring_run_id)
    console.print(f"Schedule {name!r}: {done}", **_PLAIN)


def _prepare(
    name: str,
    look: Callable[[Cluster, str], Any],
    cron: str,
    inputs: RunInputs,
    connection: Connection,
    zone: str,
    scheduler_zone: str,
) -> tuple[Cluster, Schedule]:
    """The connection, and the schedule with its pipeline version uploaded.

    Everything is checked before that; `look` raises ClusterError if the name is not to be used.
    """
    from pipelines.submit_cli import tell_notes, tell_version
    from pipelines.triggers.client import connect
    from pipelines.triggers.cron import in_zone, zone_of
    from pipelines.triggers.parameters import notes, refuse_unknown_braces, run_parameters, version_settings
    from pipelines.triggers.schedules import Schedule
    from pipelines.triggers.versions import upload

    meant, scheduler = zone_of(zone, "--time-zone"), zone_of(scheduler_zone, "--scheduler-time-zone")
    written, until = in_zone(cron, meant, scheduler, datetime.datetime.now(datetime.UTC))
    wanted = inputs.settings()
    refuse_unknown_braces(inputs, wanted)
    compiled = version_settings(inputs.preset, wanted)
    parameters = run_parameters(inputs, wanted, compiled)
    cluster = connect(connection)
    look(cluster, name)
    tell_notes(notes(inputs, wanted))
    version = upload(cluster, inputs.preset, compiled)
    tell_version(version.name, version.uploaded)
    if until:
        console.print(
            f"From {until} on it is an hour off, as the clocks of {zone} or {scheduler_zone} change: replace it then, or"
            " let KFP's scheduler work in that zone (CRON_SCHEDULE_TIMEZONE).",
            style="yellow",
            highlight=False,
        )
    what = f"{cron} {zone}; {version.name}"
    return cluster, Schedule(
        name, what, written, wanted.pipeline.experiment, version, parameters, inputs.service_account
    )


def _tell(cluster: Cluster, schedule: Schedule, made: Any, done: str) -> None:
    from pipelines.triggers.schedules import is_enabled

    state = "on" if is_enabled(made) else "paused"
    console.print(f"Schedule {schedule.name!r} {done}, {state}: cron {schedule.cron} of KFP's scheduler", **_PLAIN)
    console.print(f"  {cluster.link('recurringrun', made.recurring_run_id)}", **_PLAIN)
