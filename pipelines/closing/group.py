"""The group of all tasks that the exit handler closes, in a compiled pipeline: it is the run itself, not a part of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_COMPONENT = "comp-exit-handler"  # how KFP's compiler begins the name of its component


def is_closed_group(task: Mapping[str, Any]) -> bool:
    """Whether a task of the compiled pipeline (IR) is that group."""
    name: str = task["componentRef"]["name"]
    return name.startswith(_COMPONENT)
