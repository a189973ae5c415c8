"""`deepvideo resources`: what every step of a compiled pipeline asks Kubernetes for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.pods.table import print_pods
from pipelines.settings import SettingsError

_WIDTH = 230  # columns; narrower, the table cannot be read


def resources(
    pipeline: Annotated[
        Path, typer.Argument(help="What `deepvideo compile` wrote, with --manifests or without.")
    ] = Path("pipeline.yaml"),
) -> None:
    """Show what each step of a compiled pipeline asks Kubernetes for: image, GPUs, nodes, memory, retries, secrets."""
    if not pipeline.is_file():
        raise SettingsError(f"{pipeline}: there is no such file; `deepvideo compile --output {pipeline}` writes it")
    console = Console()
    console.width = max(console.width, _WIDTH)
    print_pods(pipeline, console)
