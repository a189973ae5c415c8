"""One step alone, without KFP: its face is called as a plain function, on files that hold references."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from kfp.dsl.types.type_annotations import InputAnnotation

from components.shared.context import StepContext
from pipelines.run_folder import RunFolder
from pipelines.settings import RunSettings, SettingsError


def faces() -> dict[str, Callable[..., None]]:
    """The steps' faces by name, as plain functions."""
    from components.augmentation.component import augment_prompts
    from components.difficulty.component import estimate
    from components.evaluation.component import evaluate_base, evaluate_trained
    from components.ingest.component import ingest_data
    from components.promotion.component import promote_policy
    from components.report.component import write_report
    from components.rollout.component import roll_out_groups
    from components.training.component import train_policy, warm_up_policy

    components = {
        "ingest": ingest_data,
        "difficulty": estimate,
        "augmentation": augment_prompts,
        "rollout": roll_out_groups,
        "warmup": warm_up_policy,
        "training": train_policy,
        "evaluation-before": evaluate_base,
        "evaluation-after": evaluate_trained,
        "promotion": promote_policy,
        "report": write_report,
    }
    return {name: component.python_func for name, component in components.items()}


def run_step(
    name: str, run: Path, inputs: Mapping[str, str], output: Path, round_index: int, settings: RunSettings
) -> list[Path]:
    """Run the step `name` with the store of the run folder `run`; returns the files it wrote below `output`.

    `inputs` are files by the input's name, as an earlier step wrote them. Raises SettingsError, naming what is allowed
    or missing, for an unknown step or a missing input.
    """
    known = faces()
    if name not in known:
        raise SettingsError(f"step: {name!r} is unknown; there are {', '.join(known)}")
    folder = RunFolder(run)
    context = StepContext(store=str(folder.store), seed=settings.pipeline.seed, run_name=folder.root.name)
    given: dict[str, Any] = {
        "context": context.model_dump_json(),
        "settings": settings.model_dump_json(),
        "round_index": round_index,
        "champion": "",
    }
    arguments: dict[str, Any] = {}
    written: list[Path] = []
    for parameter in inspect.signature(known[name]).parameters.values():
        if parameter.name in given:
            arguments[parameter.name] = given[parameter.name]
            continue
        kind, direction = get_args(parameter.annotation)[:2]
        if direction is InputAnnotation:
            path = Path(inputs.get(parameter.name, ""))
            if not path.is_file():
                raise SettingsError(f"--input {parameter.name}=REF.json: {name} needs it, and {str(path)!r} is no file")
        else:
            path = output.absolute() / f"{parameter.name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            written.append(path)
        arguments[parameter.name] = kind(name=parameter.name, uri=str(path))
    known[name](**arguments)
    return [path for path in written if path.is_file()]
