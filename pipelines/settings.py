"""All settings of a run in one model: a section a step, read from presets (YAML), overrides and the command line.

The command line, the pipeline's inputs and the settings table in the report are made from this model, so that a setting
has one name everywhere: `section.field`, for example `training.learning_rate`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from components.augmentation.settings import AugmentationSettings
from components.difficulty.settings import DifficultySettings
from components.evaluation.settings import EvaluationSettings
from components.ingest.settings import IngestSettings
from components.promotion.settings import PromotionSettings
from components.rollout.settings import RolloutSettings
from components.shared.files import sha256_bytes
from components.shared.generation.settings import GenerationSettings
from components.shared.rewards.settings import RewardSettings
from components.shared.sampling.settings import SamplingSettings
from components.shared.settings import StepSettings, setting
from components.shared.store import StoreSettings
from components.training.settings import TrainingSettings
from components.training.warmup_settings import WarmupSettings
from pipelines.closing.settings import NotificationSettings
from pipelines.pods.settings import ClusterSettings, PodSettings, TrainingPodSettings


class SettingsError(ValueError):
    """Settings that cannot be used; every line of the message names a field, what is wrong with it, and what is allowed."""


class PipelineSettings(StepSettings):
    """What shapes the DAG and names the run."""

    rounds: int = setting(
        4, "Rounds of sampling and training; 0: a warm-up alone", unit="rounds", compiled=True, ge=0, le=50
    )
    fuse_sampling: bool = setting(
        True, "Run difficulty, augmentation and rollout in one task, on one engine load a round", compiled=True
    )
    shards: int = setting(
        1,
        "Pods that share the prompts of a generating step (difficulty, augmentation, rollout, evaluation), each with an"
        " engine of its own; the results do not depend on it. More than 1 needs fuse_sampling=false.",
        unit="pods",
        compiled=True,
        ge=1,
        le=64,
    )
    evaluation_shards: int = setting(
        0, "The same for evaluation alone; 0: as many as shards.", unit="pods", compiled=True, ge=0, le=64
    )
    seed: int = setting(0, "Seed of everything that is drawn at random", ge=0, lt=2**31)
    experiment: str = setting("deepvideo-r1", "MLflow experiment that the run is listed in", min_length=1)

    def shards_of(self, step: str) -> int:
        """The pods that share the prompts of a step, such as rollout or evaluation-before."""
        return self.evaluation_shards or self.shards if step.startswith("evaluation") else self.shards


class RunSettings(StepSettings):
    """Every setting of a run."""

    pipeline: PipelineSettings = PipelineSettings()
    ingest: IngestSettings = IngestSettings()
    generation: GenerationSettings = GenerationSettings()
    sampling: SamplingSettings = SamplingSettings()
    rewards: RewardSettings = RewardSettings()
    difficulty: DifficultySettings = DifficultySettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    rollout: RolloutSettings = RolloutSettings()
    warmup: WarmupSettings = WarmupSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    promotion: PromotionSettings = PromotionSettings()
    store: StoreSettings = StoreSettings()
    # What only the compiler of a cluster's pipeline reads: no step gets it, and equal runs may differ in it.
    cluster: ClusterSettings = Field(ClusterSettings(), exclude=True)
    light_pods: PodSettings = Field(PodSettings(), exclude=True)
    generation_pods: PodSettings = Field(PodSettings(), exclude=True)
    training_pods: TrainingPodSettings = Field(TrainingPodSettings(), exclude=True)
    notification: NotificationSettings = Field(NotificationSettings(), exclude=True)

    @model_validator(mode="after")
    def _trains_at_all(self) -> RunSettings:
        if not self.pipeline.rounds and not self.warmup.num_train_epochs:
            raise ValueError("pipeline.rounds: 0 leaves a warm-up alone; raise it, or warmup.num_train_epochs")
        return self

    @model_validator(mode="after")
    def _shards_are_of_steps(self) -> RunSettings:
        if self.pipeline.shards > 1 and self.pipeline.fuse_sampling:
            raise ValueError(
                f"pipeline.shards: is {self.pipeline.shards}, but pipeline.fuse_sampling runs the three sampling steps of"
                " a round in one task, on one engine, and each needs all of the one before: set"
                " pipeline.fuse_sampling=false, or pipeline.shards=1 (pipeline.evaluation_shards may be more)"
            )
        return self

    def digest(self) -> str:
        """SHA-256 over all settings."""
        return sha256_bytes(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode())


def preset_names() -> list[str]:
    """The presets that come with the project."""
    folder = resources.files("pipelines") / "presets"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def load_preset(name: str) -> dict[str, Any]:
    """A preset's settings, as nested dictionaries. Raises SettingsError if there is none of that name."""
    if name not in preset_names():
        raise SettingsError(
            f"preset: there is no {name!r}{did_you_mean(name, preset_names())}; there are {', '.join(preset_names())}"
        )
    return yaml.safe_load((resources.files("pipelines") / "presets" / f"{name}.yaml").read_text()) or {}


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `over` laid upon it, section by section; names `section.field` in `over` are expanded first.

    A field's value is replaced whole, also where it is a mapping itself.
    """
    merged = dict(base)
    for name, value in over.items():
        section, _, field = name.partition(".")
        if field:
            value = {field: value}
        merged[section] = {**(merged.get(section) or {}), **value} if isinstance(value, Mapping) else value
    return merged


def build_settings(*layers: Mapping[str, Any], origins: Sequence[str] = ()) -> RunSettings:
    """The settings that the layers give, the last one winning. `origins` say where each layer comes from ("mine.yaml: ").

    Raises SettingsError with a line for every wrong field: where it was set, its name, what is wrong, what is allowed.
    """
    values: dict[str, Any] = {}
    for layer in layers:
        values = merge(values, layer)
    try:
        return RunSettings.model_validate(values)
    except ValidationError as error:
        known = dict(fields())
        lines = [f"{_origin(item['loc'], layers, origins)}{_explain(item, known)}" for item in error.errors()]
        raise SettingsError("\n".join(dict.fromkeys(lines))) from None


def _origin(place: Sequence[int | str], layers: Sequence[Mapping[str, Any]], origins: Sequence[str]) -> str:
    """Where the last layer that has a value at `place` comes from."""
    for layer, origin in reversed(list(zip(layers, origins, strict=False))):
        found: Any = merge({}, layer)
        for part in place[:2]:
            found = found.get(part) if isinstance(found, Mapping) else None
        if found is not None:
            return origin
    return ""


def _explain(item: Any, known: Mapping[str, FieldInfo]) -> str:
    """One of pydantic's errors in this project's words."""
    if not item["loc"]:  # of all sections together
        return str(item["ctx"]["error"])
    section, *rest = (str(part) for part in item["loc"])
    name = ".".join([section, *rest[:1]])  # below it are a list's items
    if item["type"] == "extra_forbidden":
        return unknown_setting(name, known)
    if item["type"] == "value_error":  # a validator's own words, which name fields of its section alone
        message = str(item["ctx"]["error"])
        for field in {known_name.partition(".")[2] for known_name in known if known_name.startswith(f"{section}.")}:
            if "_" in field:  # others are plain words as well
                message = re.sub(rf"(?<![.\w]){field}\b", f"{section}.{field}", message)
        return f"{name}: {message}, got {item['input']!r}" if rest else message
    if name not in known:
        return f"{name}: is a section: set its fields, such as {_first_of(section, known)}; got {item['input']!r}"
    return f"{name}: got {item['input']!r}; allowed: {allowed_values(known[name])}"


def unknown_setting(name: str, known: Collection[str]) -> str:
    """That there is no such setting, with the nearest names or what its section has."""
    section = name.partition(".")[0]
    if guess := did_you_mean(name, known) or did_you_mean(name, RunSettings.model_fields):
        return f"{name}: no such setting{guess}"
    below = [other for other in known if other.startswith(f"{section}.")]
    if below:
        return f"{name}: no such setting; there are {', '.join(below)}"
    return f"{name}: no such setting; the sections are {', '.join(RunSettings.model_fields)}"


def did_you_mean(name: str, known: Collection[str]) -> str:
    """ "; did you mean ...?" with the nearest of the known names, empty if none is near.

    Of a setting the field alone may be near: it was put into the wrong section, or into none.
    """
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    field = name.rpartition(".")[2]
    same = [other for other in known if other.rpartition(".")[2] == field]
    found = same or near
    return f"; did you mean {' or '.join(found)}?" if found else ""


def _first_of(section: str, known: Collection[str]) -> str:
    return next(name for name in known if name.startswith(f"{section}."))


def fields() -> Iterator[tuple[str, FieldInfo]]:
    """(section.field, its pydantic field) of every setting."""
    for section, info in RunSettings.model_fields.items():
        model = info.annotation
        assert isinstance(model, type) and issubclass(model, BaseModel)
        for name, field in model.model_fields.items():
            yield f"{section}.{name}", field


_TYPES = {int: "whole number", float: "number", bool: "true | false", str: "text"}
_LIMITS = {"ge": ">= {}", "gt": "> {}", "le": "<= {}", "lt": "< {}", "multiple_of": "a multiple of {}"}


def allowed_values(info: FieldInfo) -> str:
    """What a field takes, in words: its choices, or its type and range."""
    kind, arguments = info.annotation, get_args(info.annotation)
    if get_origin(kind) is tuple:
        words = "list of " + (" | ".join(get_args(arguments[0])) or f"{_TYPES[arguments[0]]}s")
    elif get_origin(kind) in (dict, Mapping):
        words = f"mapping of {_TYPES[arguments[0]]} to {_TYPES[arguments[1]]}"
    elif arguments:
        words = " | ".join(map(str, arguments))
    else:
        assert isinstance(kind, type)
        words = _TYPES[kind]
    limits = [
        text.format(getattr(part, name))
        for part in info.metadata
        for name, text in _LIMITS.items()
        if getattr(part, name, None) is not None
    ]
    more = ["not empty" for part in info.metadata if getattr(part, "min_length", None)]
    more += [f"of the form {form}" for part in info.metadata if (form := getattr(part, "pattern", None))]
    return ", ".join([f"{words} {', '.join(limits)}".strip(), *more])


def is_compiled(info: FieldInfo) -> bool:
    """Whether the setting is fixed when the pipeline is compiled."""
    extra = info.json_schema_extra
    return bool(isinstance(extra, dict) and extra.get("compiled"))


def unit(info: FieldInfo) -> str:
    """A field's unit, empty if it has none."""
    extra = info.json_schema_extra
    return str(extra.get("unit", "")) if isinstance(extra, dict) else ""
