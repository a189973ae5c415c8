"""The list of settings that `deepvideo settings` prints."""

from __future__ import annotations

import re
from typing import Any

from pydantic.fields import FieldInfo
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from pipelines.settings import RunSettings, SettingsError, allowed_values, did_you_mean, fields, is_compiled, unit

_INDENT = 4  # columns


def print_settings(settings: RunSettings, console: Console, wanted: str = "", given: str = "") -> None:
    """Name, meaning, default, unit and allowed values of each setting that `wanted` matches; all of them if it is empty.

    `given` says whose values `settings` are, to be shown where they are not the default; empty: defaults alone.
    Raises SettingsError if nothing matches.
    """
    found = [(name, info) for name, info in fields() if _matches(wanted, name, info)]
    if not found:
        known = [*RunSettings.model_fields, *(name for name, _ in fields())]
        raise SettingsError(
            f"settings: none has {wanted!r} in its name or meaning{did_you_mean(wanted, known)}; the sections are "
            f"{', '.join(RunSettings.model_fields)}"
        )
    for name, info in found:
        section, field = name.split(".")
        value = getattr(getattr(settings, section), field)
        console.print(Text(name, "bold"))
        console.print(Padding(Text(info.description or ""), (0, 0, 0, _INDENT)), highlight=False)
        console.print(Padding(_facts(info, value, given), (0, 0, 0, _INDENT)), highlight=False)
    if not wanted:
        console.print("\n`deepvideo settings WORD` lists a section, or those with WORD in their name or meaning.")


def _matches(wanted: str, name: str, info: FieldInfo) -> bool:
    """A section takes its fields alone; any other word may stand anywhere in a name, or as a word in a meaning."""
    if wanted in RunSettings.model_fields:
        return name.startswith(f"{wanted}.")
    whole_word = rf"(?<!\w){re.escape(wanted)}(?!\w)"
    return wanted.casefold() in name or bool(re.search(whole_word, info.description or "", re.IGNORECASE))


def _facts(info: FieldInfo, value: Any, given: str) -> Text:
    parts = [f"default: {_shown(info.default)}"]
    if given and value != info.default:
        parts.append(f"{given}: {_shown(value)}")
    parts.append(f"allowed: {allowed_values(info)}")
    if unit(info):
        parts.append(f"unit: {unit(info)}")
    if is_compiled(info):
        parts.append("fixed when the pipeline is compiled")
    return Text("; ".join(parts), "dim")


def _shown(value: Any) -> str:
    """A value as it is given to --set."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(_shown, value)) or "empty"
    return f"{value:g}" if isinstance(value, float) else str(value) or "empty"
