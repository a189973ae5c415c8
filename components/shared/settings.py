"""What every step's settings have in common: a unit and a description on each field, and where it may be set."""

from __future__ import annotations

from typing import Any, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator


class StepSettings(BaseModel):
    """Base of all settings: immutable, and an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _one_value_is_a_list(cls, value: Any, info: ValidationInfo) -> Any:
        """A list may be given as one value, or as text with commas."""
        if info.field_name is None or get_origin(cls.model_fields[info.field_name].annotation) is not tuple:
            return value
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value if isinstance(value, list | tuple) else [value]


def setting(default: Any, description: str, *, unit: str = "", compiled: bool = False, **limits: Any) -> Any:
    """A settings field: its default, one sentence of help, its unit, and pydantic's limits (`ge`, `le`, ...).

    `compiled=True` marks what is fixed when the pipeline is compiled (it shapes the DAG); everything else can be set
    for each run.
    """
    return Field(default, description=description, json_schema_extra={"unit": unit, "compiled": compiled}, **limits)
