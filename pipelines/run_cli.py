"""`deepvideo run`: the whole pipeline on this machine, its steps as processes or in containers."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from pipelines.containers.names import STORE, TRACKING
from pipelines.options import (
    Annotations,
    Assignments,
    Model,
    Preset,
    Rounds,
    Seed,
    SettingsFile,
    Videos,
    settings_from,
)
from pipelines.settings import SettingsError

app = typer.Typer()
console = Console()
errors = Console(stderr=True)
_PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}


@app.command()
def run(
    preset: Preset = "laptop",
    output: Annotated[Path, typer.Option(help="Folder of the run; the same one continues it.")] = Path("runs/laptop"),
    annotations: Annotations = "",
    videos: Videos = "",
    model: Model = "",
    rounds: Rounds = None,
    seed: Seed = None,
    settings_file: SettingsFile = None,
    assignments: Assignments = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Remove the run in the folder and start over.")] = False,
    containers: Annotated[
        bool, typer.Option("--containers", help="Every step in its image, with Docker or podman (`make images`).")
    ] = False,
    store: Annotated[
        str, typer.Option(help=f"Artifact store: s3://...; default: in the run's folder, in containers {STORE}.")
    ] = "",
    tracking_uri: Annotated[
        str, typer.Option(help=f"MLflow's address; default: a database beside it, in containers {TRACKING}.")
    ] = "",
) -> None:
    """Run the whole pipeline on this machine. The same command continues a stopped run; a finished one prints its summary."""
    from components.ingest.preflight import check_local_inputs
    from components.shared.rewards import check_rewards
    from pipelines.local_run import RunFailed, run_locally, with_absolute_paths
    from pipelines.run_folder import RunFolder
    from pipelines.summary_text import print_summary

    named: dict[str, Any] = {"ingest.annotations": annotations, "ingest.videos": videos, "ingest.model": model}
    named |= {"pipeline.rounds": rounds, "pipeline.seed": seed}
    settings = with_absolute_paths(settings_from(preset, settings_file, assignments, named))
    if terms := check_local_inputs(settings.ingest):
        console.print(terms, **_PLAIN)
    check_rewards(settings.rewards.reward_funcs, settings.rewards.reward_weights)
    if containers:
        store, tracking_uri = store or os.environ.get(STORE, ""), tracking_uri or os.environ.get(TRACKING, "")
    folder = RunFolder(output, store, tracking_uri)
    if containers and ("://" not in folder.store or folder.tracking_uri.startswith("sqlite:")):
        raise SettingsError(
            "--containers: steps in containers need --store s3://... and --tracking-uri http://...; `deepvideo services --"
            " COMMAND` starts both on this machine and gives a command their variables"
        )
    with folder.locked():
        if fresh:
            folder.clear()
        folder.start(settings)
        if not folder.finished():
            console.print(
                f"[bold]DeepVideo-R1[/bold]  preset {preset}, {settings.pipeline.rounds} rounds, in {folder.root}"
            )
            try:
                run_locally(folder, settings, console, containers)
            except KeyboardInterrupt:
                errors.print(
                    f"Stopped{folder.where()}. This continues where it stopped:\n  {_same_command()}", **_PLAIN
                )
                sys.exit(130)
            except RunFailed as failed:
                errors.print(str(failed), style="red", **_PLAIN)
                errors.print(
                    "\nWhen the cause is mended, this continues where it stopped (data that changed after their ingest"
                    f" need --fresh):\n  {_same_command()}",
                    **_PLAIN,
                )
                sys.exit(1)
        print_summary(folder, console)


def _same_command() -> str:
    """The command as it was given, without what would start over."""
    program = sys.argv[0] if Path(sys.argv[0]).name == "deepvideo" else "deepvideo"
    return shlex.join([program, *(word for word in sys.argv[1:] if word != "--fresh")])
