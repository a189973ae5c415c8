"""Which MLflow a command looks at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.settings import SettingsError

_LOCAL = Path("runs/mlflow.db")
TrackingUri = Annotated[
    str, typer.Option(envvar="MLFLOW_TRACKING_URI", help=f"MLflow's address; default: that of local runs, {_LOCAL}.")
]


def chosen_tracking_uri(given: str) -> str:
    """The address given, else that of the runs on this machine. Raises SettingsError if there are none."""
    if given:
        return given
    if not _LOCAL.is_file():
        raise SettingsError(f"--tracking-uri: there is no {_LOCAL} here; give MLflow's address, or MLFLOW_TRACKING_URI")
    return f"sqlite:///{_LOCAL.absolute()}"
