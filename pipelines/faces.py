"""The KFP faces of the steps, by the names that commands and shards call them."""

from __future__ import annotations

import importlib
from collections.abc import Callable

FACES = {
    "ingest": "components.ingest.component:ingest_data",
    "difficulty": "components.difficulty.component:estimate",
    "augmentation": "components.augmentation.component:augment_prompts",
    "rollout": "components.rollout.component:roll_out_groups",
    "warmup": "components.training.component:warm_up_policy",
    "training": "components.training.component:train_policy",
    "evaluation-before": "components.evaluation.component:evaluate_base",
    "evaluation-after": "components.evaluation.component:evaluate_trained",
    "evaluation-champion": "components.evaluation.component:evaluate_champion",
    "promotion": "components.promotion.component:promote_policy",
    "report": "components.report.component:write_report",
}


def face_of(name: str) -> Callable[..., None]:
    """The face of a step, one of `FACES`, as a plain function. Nothing of the other steps is imported."""
    module, _, component = FACES[name].partition(":")
    face = getattr(importlib.import_module(module), component)
    return getattr(face, "python_func", face)  # inside a KFP task it is the function itself
