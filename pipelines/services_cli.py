"""`deepvideo services`: a real S3 server and MLflow on PostgreSQL on this machine."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.containers.names import TRACKING

app = typer.Typer()
console = Console(stderr=True)


@app.command()
def services(
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[-- COMMAND...]", help="Run it, then stop; without it: until Ctrl-C.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where they keep their data, keys and logs.")] = Path("runs/services"),
) -> None:
    """Start an S3 server (Ceph's) and MLflow on PostgreSQL, from Debian's packages, and run a command with their variables.

    They keep their data between calls. Endpoints of your own, given as DEEPVIDEO_STORE or DEEPVIDEO_TRACKING_URI, are used
    instead.
    """
    from pipelines.containers.services import services as running

    code = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console.print("Starting S3 and MLflow (half a minute)", style="bold")
    try:
        with running(folder) as started:
            variables = started.variables
            console.print(f"MLflow: {variables[TRACKING]}   data, keys and logs: {folder.absolute()}", soft_wrap=True)
            if command:
                code = _run(command, variables)
            else:
                for name, value in variables.items():
                    print(f"export {name}={shlex.quote(value)}", flush=True)
                signal.pause()
    except RuntimeError as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        sys.exit(2)
    sys.exit(code)


def _run(command: list[str], variables: dict[str, str]) -> int:
    """The exit code of a command with those variables. Ctrl-C is for it; the services end after it."""
    process = subprocess.Popen(command, env={**os.environ, **variables})
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            continue
        return 128 - code if code < 0 else code
