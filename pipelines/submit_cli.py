"""`deepvideo submit`: a run on a cluster, from upload to its end."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from pipelines.options import Connection, RunInputs, grouped

app = typer.Typer()
console = Console()
errors = Console(stderr=True)
_PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}


@app.command()
@grouped
def submit(
    inputs: RunInputs,
    connection: Connection,
    name: Annotated[str, typer.Option(help="Name of the run; default: the preset and the time.")] = "",
    wait_for_it: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for its end, with its tasks.")] = True,
    interval: Annotated[float, typer.Option(min=0.01, help="Seconds between two looks at it.")] = 10.0,
) -> None:
    """Start a run on the cluster and wait for it: exit code 0 if it succeeds, 1 with the failing task if it does not.

    Ctrl-C ends the waiting, not the run.
    """
    from pipelines.triggers.client import connect
    from pipelines.triggers.errors import ClusterError, ClusterRunFailed
    from pipelines.triggers.parameters import notes, run_parameters, version_settings
    from pipelines.triggers.versions import upload
    from pipelines.triggers.waiting import wait

    wanted = inputs.settings()
    compiled = version_settings(inputs.preset, wanted)
    parameters = run_parameters(inputs, wanted, compiled, name)
    cluster = connect(connection)
    tell_notes(notes(inputs, wanted))
    version = upload(cluster, inputs.preset, compiled)
    tell_version(version.name, version.uploaded)
    shown_name = name or f"{inputs.preset} {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M:%S}"
    with cluster.asking("starting the run"):
        experiment = cluster.client.create_experiment(wanted.pipeline.experiment, namespace=cluster.namespace)
        run = cluster.client.run_pipeline(
            experiment.experiment_id,
            shown_name,
            params=parameters,
            pipeline_id=version.pipeline_id,
            version_id=version.version_id,
            service_account=inputs.service_account,
        )
    link = cluster.link("runs", run.run_id)
    console.print(f"Run {shown_name!r}:\n  {link}", **_PLAIN)
    if not wait_for_it:
        return
    try:
        wait(cluster, run.run_id, version.spec, console, interval)
    except KeyboardInterrupt:
        errors.print(f"\nNot waiting any more; the run goes on: {link}", **_PLAIN)
        raise typer.Exit(130) from None
    except ClusterError:
        errors.print(f"The run goes on: {link}", **_PLAIN)
        raise
    except ClusterRunFailed as failed:
        errors.print(f"{failed}\n{link}", style="red", **_PLAIN)
        raise typer.Exit(1) from None
    console.print("The run succeeded.")


def tell_notes(lines: list[str]) -> None:
    """Print what pods will not be able to use."""
    for line in lines:
        console.print(Padding(Text(f"- {line}", "yellow"), (0, 0, 0, 2)))


def tell_version(name: str, uploaded: bool) -> None:
    """Print which pipeline version is used."""
    console.print(f"Pipeline version {name}: {'uploaded' if uploaded else 'KFP has it'}", highlight=False)
