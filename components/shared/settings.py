"""What every step's settings have in common: a unit and a description on each field, and where it may be set."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class StepSettings(BaseModel):
    """Base of all settings: immutable, and an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def setting(default: Any, description: str, *, unit: str = "", compiled: bool = False, **limits: Any) -> Any:
    """A settings field: its default, one sentence of help, its unit, and pydantic's limits (`ge`, `le`, ...).

    `compiled=True` marks what is fixed when the pipeline is compiled (it shapes the DAG); everything else can be set
    for each run.
    """
    return Field(default, description=description, json_schema_extra={"unit": unit, "compiled": compiled}, **limits)
