"""The pipeline's inputs in the Kubeflow UI, made from the settings: those that runs usually differ in, and one YAML for the rest.

The UI lists inputs alphabetically by name, so names begin with their theme.
"""

from __future__ import annotations

import inspect
from typing import Any

from pipelines.settings import RunSettings, fields

# UI name -> setting
INPUTS = {
    "data_annotations": "ingest.annotations",
    "data_max_quarantine_fraction": "ingest.max_quarantine_fraction",
    "data_num_frames": "ingest.num_frames",
    "data_videos": "ingest.videos",
    "model_base": "ingest.model",
    "model_revision": "ingest.model_revision",
    "promotion_registered_model": "promotion.registered_model",
    "rl_beta": "training.beta",
    "rl_learning_rate": "training.learning_rate",
    "rl_num_generations": "sampling.num_generations",
    "rl_num_iterations": "training.num_iterations",
    "rl_prompts_per_round": "difficulty.prompts_per_round",
    "run_experiment": "pipeline.experiment",
    "run_seed": "pipeline.seed",
}
OVERRIDES = "settings_overrides"
STORE = "run_store"
TRACKING = "run_tracking_uri"
RUN_NAME = "run_name"

_EXTRA = {
    RUN_NAME: ("", "Name of the run in MLflow and in reports; empty: the Kubeflow run's id"),
    STORE: ("", "Artifact store: s3://bucket/prefix, file:///folder or a folder"),
    TRACKING: ("", "MLflow tracking URI; empty: nothing is tracked"),
    OVERRIDES: ("", "Any other settings, as YAML: `training.max_grad_norm: 0.5`"),
}


def signature(settings: RunSettings, **extra: str) -> inspect.Signature:
    """The pipeline function's signature: one parameter an input, its default taken from `settings`."""
    defaults = {name: _value(settings, path) for name, path in INPUTS.items()}
    defaults |= {name: extra.get(name, default) for name, (default, _) in _EXTRA.items()}
    return inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=type(value))
            for name, value in sorted(defaults.items())
        ]
    )


def documentation() -> str:
    """The Args section of the pipeline's docstring."""
    described = {path: info.description for path, info in fields()}
    lines = {name: described[path] for name, path in INPUTS.items()} | {
        name: text for name, (_, text) in _EXTRA.items()
    }
    return "\n".join(f"    {name}: {text}" for name, text in sorted(lines.items()))


def _value(settings: RunSettings, path: str) -> Any:
    section, name = path.split(".")
    return getattr(getattr(settings, section), name)


def as_overrides(values: dict[str, Any]) -> dict[str, Any]:
    """The settings that a run's inputs stand for, by dotted name."""
    return {INPUTS[name]: value for name, value in values.items()}
