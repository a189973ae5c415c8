"""All settings of a run in one model: a section a step, read from presets (YAML), overrides and the command line.

The command line, the pipeline's inputs and the settings table in the report are made from this model, so that a setting
has one name everywhere: `section.field`, for example `training.learning_rate`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError
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
from components.training.settings import TrainingSettings
from pipelines.pods.settings import ClusterSettings, PodSettings


class SettingsError(ValueError):
    """Settings that cannot be used; every line of the message names a field, what is wrong with it, and what is allowed."""


class PipelineSettings(StepSettings):
    """What shapes the DAG and names the run."""

    rounds: int = setting(4, "Rounds of sampling and training", unit="rounds", compiled=True, ge=1, le=50)
    fuse_sampling: bool = setting(
        True, "Run difficulty, augmentation and rollout in one task, on one engine load a round", compiled=True
    )
    seed: int = setting(0, "Seed of everything that is drawn at random", ge=0, lt=2**31)
    experiment: str = setting("deepvideo-r1", "MLflow experiment that the run is listed in", min_length=1)


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
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    promotion: PromotionSettings = PromotionSettings()
    # What only the compiler of a cluster's pipeline reads: no step gets it, and equal runs may differ in it.
    cluster: ClusterSettings = Field(ClusterSettings(), exclude=True)
    light_pods: PodSettings = Field(PodSettings(), exclude=True)
    generation_pods: PodSettings = Field(PodSettings(), exclude=True)
    training_pods: PodSettings = Field(PodSettings(), exclude=True)

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
        raise SettingsError(f"preset: {name!r} is unknown; allowed: {', '.join(preset_names())}")
    return yaml.safe_load((resources.files("pipelines") / "presets" / f"{name}.yaml").read_text()) or {}


def parse_overrides(text: str) -> dict[str, Any]:
    """Overrides as YAML: nested sections, dotted names, or both. Raises SettingsError if it is not a mapping."""
    try:
        loaded = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise SettingsError(f"overrides: not valid YAML: {error}") from None
    if not isinstance(loaded, dict):
        raise SettingsError("overrides: expected a mapping such as `training.learning_rate: 1e-6`")
    return merge({}, loaded)


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """`section.field=value` pairs from the command line; values are read as YAML."""
    merged: dict[str, Any] = {}
    for assignment in assignments:
        name, separator, value = assignment.partition("=")
        if not separator or "." not in name:
            raise SettingsError(f"--set {assignment}: expected section.field=value, such as training.beta=0.1")
        merged = merge(merged, {name.strip(): _scalar(value)})
    return merged


def _scalar(text: str) -> Any:
    value = yaml.safe_load(text) if text.strip() else ""
    if isinstance(value, str):
        try:
            return float(value)  # YAML reads 1e-4 as text
        except ValueError:
            return value
    return value


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `over` laid upon it, section by section; dotted names in `over` are expanded first."""
    merged = dict(base)
    for name, value in over.items():
        head, _, tail = name.partition(".")
        if tail:
            value = {tail: value}
        if isinstance(value, Mapping):
            merged[head] = merge(merged.get(head) or {}, value)
        else:
            merged[head] = value
    return merged


def build_settings(*layers: Mapping[str, Any]) -> RunSettings:
    """The settings that the layers give, the last one winning.

    Raises SettingsError with a line for every wrong field: its name, what is wrong, and the allowed range.
    """
    values: dict[str, Any] = {}
    for layer in layers:
        values = merge(values, layer)
    try:
        return RunSettings.model_validate(values)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(item) for item in error.errors())) from None


def _explain(item: Any) -> str:
    name = ".".join(str(part) for part in item["loc"])
    section = item["loc"][0] if item["loc"] else ""
    if item["type"] == "extra_forbidden":
        names = [known for known, _ in fields() if known.startswith(f"{section}.")] or list(RunSettings.model_fields)
        return f"{name}: no such setting; there are {', '.join(names)}"
    info = dict(fields()).get(name)
    allowed = f" (allowed: {allowed_values(info)})" if info is not None and allowed_values(info) else ""
    return f"{name}: {item['msg']}, got {item['input']!r}{allowed}"


def fields() -> Iterator[tuple[str, FieldInfo]]:
    """(section.field, its pydantic field) of every setting."""
    for section, info in RunSettings.model_fields.items():
        model = info.annotation
        assert isinstance(model, type) and issubclass(model, BaseModel)
        for name, field in model.model_fields.items():
            yield f"{section}.{name}", field


def allowed_values(info: FieldInfo) -> str:
    """A field's range or choices in words, empty if anything of its type goes."""
    choices = getattr(info.annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        return " | ".join(choices)
    words = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "multiple_of": "a multiple of"}
    limits = [
        f"{word} {getattr(part, name)}"
        for part in info.metadata
        for name, word in words.items()
        if getattr(part, name, None) is not None
    ]
    return ", ".join(limits)


def is_compiled(info: FieldInfo) -> bool:
    """Whether the setting is fixed when the pipeline is compiled."""
    extra = info.json_schema_extra
    return bool(isinstance(extra, dict) and extra.get("compiled"))


def unit(info: FieldInfo) -> str:
    """A field's unit, empty if it has none."""
    extra = info.json_schema_extra
    return str(extra.get("unit", "")) if isinstance(extra, dict) else ""
