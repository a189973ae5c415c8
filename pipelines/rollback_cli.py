"""`deepvideo rollback`: the champion back to an earlier version."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from components.promotion.settings import PromotionSettings
from pipelines.tracking_options import TrackingUri, chosen_tracking_uri

app = typer.Typer()
console = Console()
_PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
_SHORT = 12  # characters of a digest
_DEFAULTS = PromotionSettings()


@app.command()
def rollback(
    to: Annotated[str, typer.Option(metavar="VERSION", help="Default: what was champion before.")] = "",
    registered_model: Annotated[str, typer.Option(help="Name in the model registry.")] = _DEFAULTS.registered_model,
    alias: Annotated[str, typer.Option(help="The alias to move.")] = _DEFAULTS.alias,
    tracking_uri: TrackingUri = "",
    show: Annotated[bool, typer.Option("--list", help="List the versions, and change nothing.")] = False,
) -> None:
    """Point the registry's alias back to an earlier version: later runs start from it and challenge it."""
    from components.promotion.rollback import roll_back, versions
    from components.shared.tracking.registry import RegisteredVersion, alias_version

    uri = chosen_tracking_uri(tracking_uri)
    if show:
        client, known = versions(uri, registered_model)
        current = alias_version(client, registered_model, alias)
        table = Table("version", "policy", "run", "challenged", box=None)
        for item in known.values():
            mark = f" {alias}" if item.version == current else ""
            table.add_row(f"{item.version}{mark}", item.policy.digest[:_SHORT], item.run_name, item.challenged or "-")
        console.print(table)
        return

    def said(item: RegisteredVersion) -> str:
        return f"version {item.version} (policy {item.policy.digest[:_SHORT]}, of run {item.run_name})"

    before, now = roll_back(uri, registered_model, alias, to)
    console.print(f"{registered_model}@{alias} was {said(before)}", **_PLAIN)
    console.print(f"{registered_model}@{alias} is  {said(now)}", **_PLAIN)
    console.print(f"Back again: deepvideo rollback --to {before.version}", **_PLAIN)
