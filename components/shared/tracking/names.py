"""What MLflow takes as names and values, from its validation rules."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from numbers import Real
from typing import Any, SupportsFloat, TypeGuard

BATCH_METRICS, BATCH_PARAMS = 1000, 100  # most in one call
_NAME_LENGTH, _PARAM_LENGTH = 250, 6000  # characters
_CUT = "... (cut)"


def legal_name(name: str) -> str:
    """The name as MLflow takes it: letters, digits and `_-. :/`, at most 250 characters; TRL's names are legal.

    `@` becomes `_at_`, anything else illegal `_`.
    """
    cleaned = re.sub(r"[^\w.\- :/]", "_", name.replace("@", "_at_"))
    parts = ["_" if part in (".", "..") else part for part in cleaned.split("/") if part]
    return "/".join(parts)[:_NAME_LENGTH].rstrip("/") or "_"


def is_number(value: object) -> TypeGuard[SupportsFloat]:
    """Whether a value can be a metric: any real number, booleans as 0 and 1, no text."""
    return isinstance(value, Real)


def flat_params(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as parameters: names joined by dots, text as it is, the rest as JSON, cut to MLflow's length."""
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flat_params(value, f"{prefix}{name}.")
            continue
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        if len(text) > _PARAM_LENGTH:
            text = text[: _PARAM_LENGTH - len(_CUT)] + _CUT
        flat[legal_name(f"{prefix}{name}")] = text
    return flat
