"""A family's model class, for those who have PyTorch."""

from __future__ import annotations

from typing import Any

from components.shared.families import Family
from components.shared.torchvision_compat import ensure_torchvision


def transformers_class(family: Family) -> Any:
    """The class of transformers."""
    ensure_torchvision()
    import transformers

    return getattr(transformers, family.model_class)
