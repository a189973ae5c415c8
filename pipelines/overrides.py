"""Settings as a user writes them: a YAML file or text, and `section.field=value` on the command line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from pipelines.settings import RunSettings, SettingsError, fields, merge, unknown_setting


def read_overrides(path: Path) -> dict[str, Any]:
    """The settings in a YAML file. Raises SettingsError, which names the file, if it cannot be read as such."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(f"--settings {path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--settings {path}: cannot be read as text ({error})") from None
    return parse_overrides(text, str(path))


def parse_overrides(text: str, origin: str = "overrides") -> dict[str, Any]:
    """Overrides as YAML: nested sections, dotted names, or both. An empty section counts as not there.

    Raises SettingsError, which names `origin`, if it is not a mapping.
    """
    try:
        loaded = yaml.safe_load(text) or {}
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SettingsError(f"{origin}{line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{origin}: not valid YAML: {error}") from None
    if not isinstance(loaded, dict) or not all(isinstance(name, str) for name in loaded):
        raise SettingsError(f"{origin}: expected a mapping such as `training.learning_rate: 1e-6`")
    return merge({}, {name: value for name, value in loaded.items() if value is not None})


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """`section.field=value` pairs from the command line; values are read as YAML.

    Raises SettingsError for what is no such pair.
    """
    merged: dict[str, Any] = {}
    for assignment in assignments:
        name, separator, value = (part.strip() for part in assignment.partition("="))
        if separator and name and "." not in name and name not in RunSettings.model_fields:
            raise SettingsError(f"--set {unknown_setting(name, dict(fields()))}")
        if not separator or "." not in name:
            raise SettingsError(f"--set {assignment}: expected section.field=value, such as training.beta=0.1")
        try:
            read = yaml.safe_load(value) if value else ""
        except yaml.YAMLError:
            read = value
        merged = merge(merged, {name: read})
    return merged
