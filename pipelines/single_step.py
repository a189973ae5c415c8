"""One step alone, without KFP: its face is called as a plain function, on files that hold references."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from components.shared.context import StepContext
from pipelines.faces import FACES, face_of
from pipelines.outputs import check_output_folder
from pipelines.run_folder import RunFolder
from pipelines.settings import RunSettings, SettingsError, did_you_mean

STEPS = tuple(name for name in FACES if name != "evaluation-champion")  # that one is the registry's, and a run's alone


@dataclass(frozen=True)
class StepDone:
    """What a step that ran alone left: its reference files, and what it reported by name."""

    files: list[Path]
    results: dict[str, Any]


def parse_inputs(given: Sequence[str]) -> dict[str, Path]:
    """`NAME=REF.json` pairs as files by the input's name. Raises SettingsError for what is no such pair."""
    pairs = [item.partition("=") for item in given]
    for item, (name, _, path) in zip(given, pairs, strict=True):
        if not name or not path:
            raise SettingsError(f"--input {item}: expected NAME=REF.json")
    return {name: Path(path) for name, _, path in pairs}


def run_step(
    name: str, run: Path, inputs: Mapping[str, Path], output: Path, round_index: int, settings: RunSettings
) -> StepDone:
    """Run the step `name` with the store of the run folder `run`; its files are written below `output`.

    `inputs` are files by the input's name, as an earlier step wrote them. A step that reads none begins a run folder where
    there is none. Raises SettingsError, naming what is allowed or missing, for an unknown step, a missing folder or input.
    """
    if name not in STEPS:
        raise SettingsError(f"step: there is no {name!r}{did_you_mean(name, STEPS)}; there are {', '.join(STEPS)}")
    from kfp.dsl.types.type_annotations import InputAnnotation

    face = face_of(name)
    folder = RunFolder(run)
    context = StepContext(store=folder.store, seed=settings.pipeline.seed, run_name=folder.root.name)
    given: dict[str, Any] = {
        "context": context.model_dump_json(),
        "settings": settings.model_dump_json(),
        "round_index": round_index,
        "champion": "",
    }
    arguments: dict[str, Any] = {}
    read: list[str] = []
    written: list[Path] = []
    for parameter in inspect.signature(face).parameters.values():
        if parameter.name in given:
            arguments[parameter.name] = given[parameter.name]
            continue
        if parameter.default is not parameter.empty:  # what a cluster's pipeline sets alone
            continue
        kind, direction = get_args(parameter.annotation)[:2]
        if direction is InputAnnotation:
            path = inputs.get(parameter.name, Path())
            read.append(parameter.name)
        else:
            path = output.absolute() / f"{parameter.name}.json"
            written.append(path)
        arguments[parameter.name] = kind(name=parameter.name, uri=str(path))
    if unknown := sorted(set(inputs) - set(read)):
        raise SettingsError(f"--input {unknown[0]}: {name} takes {', '.join(read) or 'no input'}")
    if missing := [item for item in read if item not in inputs]:
        raise SettingsError(f"step {name} needs " + " ".join(f"--input {item}=REF.json" for item in missing))
    for item, path in inputs.items():
        if not path.is_file():
            raise SettingsError(f"--input {item}={path}: there is no such file")
    if read and not run.is_dir():
        raise SettingsError(f"--run {run}: there is no such folder; give that of a local run, such as runs/laptop")
    if run.exists() and not run.is_dir():
        raise SettingsError(f"--run {run}: is a file; name a folder")
    check_output_folder(output)
    face(**arguments)
    told = json.loads(reports.read_text()) if (reports := output / "new_reports.json").is_file() else []
    return StepDone([path for path in written if path.is_file()], told[-1]["results"] if told else {})
