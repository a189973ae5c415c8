"""The pipeline's inputs in the Kubeflow UI, made from the settings: those that runs usually differ in, and one YAML for the rest.

The UI lists inputs alphabetically by name, so names begin with their theme.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_args

from components.training.objectives import OBJECTIVES
from pipelines.pods.inputs import POD_INPUTS
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
    "rl_objective": "training.objective",
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


def signature(settings: RunSettings, pods: dict[str, Any], **extra: str) -> inspect.Signature:
    """The pipeline function's signature: one parameter an input, its default taken from `settings`, `pods` or `extra`."""
    defaults = {name: _value(settings, path) for name, path in INPUTS.items()} | pods
    defaults |= {name: extra.get(name, default) for name, (default, _) in _EXTRA.items()}
    return inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=type(value))
            for name, value in sorted(defaults.items())
        ]
    )


def declare(function: Callable[..., Any], parameters: inspect.Signature) -> None:
    """Let KFP see a function with these parameters."""
    function.__signature__ = parameters  # type: ignore[attr-defined]
    annotations = {name: item.annotation for name, item in parameters.parameters.items()}
    function.__annotations__ = annotations | {"return": parameters.return_annotation}


def documentation(parameters: inspect.Signature) -> str:
    """The Args section of the pipeline's docstring."""
    described = {path: info.description for path, info in fields()}
    texts = {name: described[path] for name, path in (INPUTS | POD_INPUTS).items()}
    texts |= {name: text for name, (_, text) in _EXTRA.items()}
    return "\n".join(f"    {name}: {texts[name]}" for name in sorted(parameters.parameters))


def choices(settings: RunSettings) -> dict[str, list[str]]:
    """What a run may choose from, by input name: of an enumeration's values those that fit what is compiled in."""
    enumerated = {path: list(get_args(info.annotation)) for path, info in fields()}
    found = {name: enumerated[path] for name, path in INPUTS.items() if enumerated[path]}
    samples_of = OBJECTIVES[settings.training.objective].rollout_policy  # the DAG follows from it
    found["rl_objective"] = [name for name in found["rl_objective"] if OBJECTIVES[name].rollout_policy == samples_of]
    return found


def add_choices(spec: Any, settings: RunSettings) -> None:
    """Write the choices into a pipeline's spec: the UI then shows a list, and the API server refuses anything else.

    KFP's SDK has no type for them yet.
    """
    for name, values in choices(settings).items():
        for value in values:
            spec.root.input_definitions.parameters[name].literals.add().string_value = value


def _value(settings: RunSettings, path: str) -> Any:
    section, name = path.split(".")
    return getattr(getattr(settings, section), name)


def as_overrides(values: dict[str, Any]) -> dict[str, Any]:
    """The settings that a run's inputs stand for, by dotted name."""
    return {INPUTS[name]: value for name, value in values.items()}
