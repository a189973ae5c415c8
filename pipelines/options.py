"""Options that several commands share, and the settings that they give."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from components.ingest.settings import REGISTRY
from pipelines.overrides import parse_assignments, read_overrides
from pipelines.settings import RunSettings, SettingsError, build_settings, load_preset, preset_names

Preset = Annotated[str, typer.Option(help=f"Settings to start from: {', '.join(preset_names())}.")]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Override one setting; repeatable.")
]
SettingsFile = Annotated[Path | None, typer.Option("--settings", help="YAML file of settings laid upon the preset.")]
Annotations = Annotated[str, typer.Option(help="Annotations: JSON, JSONL or Parquet; a path or s3://.")]
Videos = Annotated[str, typer.Option(help="Folder or s3:// prefix of the videos; default: beside the annotations.")]
Model = Annotated[
    str, typer.Option(help="Base model: a folder, s3://, models:/NAME@ALIAS, or a hub id (with ingest.model_revision).")
]
Rounds = Annotated[int | None, typer.Option(help="Rounds; more than a finished run has continues it.")]
JudgeUrl = Annotated[str, typer.Option(help="OpenAI-compatible endpoint of a judge; its key: OPENAI_API_KEY.")]
JudgeModel = Annotated[str, typer.Option(help="The judge's model.")]
JudgeRequests = Annotated[int, typer.Option(min=1, help="Requests that the judge gets at once.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything that is drawn at random.")]


def settings_from(
    preset: str,
    file: Path | None = None,
    assignments: list[str] | None = None,
    named: Mapping[str, Any] | None = None,
    run_folder: Path | None = None,
) -> RunSettings:
    """The settings from the preset, the file, the options that name a setting and were given, and the assignments.

    Without a preset the settings of the run in `run_folder` stand below, if there is one, else the laptop's.
    """
    from pipelines.run_folder import RunFolder

    started = RunFolder(run_folder).started_with() if run_folder and not preset else None
    layers = [
        ("", started.settings if started else load_preset(preset or "laptop")),
        (f"{file}: ", read_overrides(file) if file else {}),
        ("", {name: value for name, value in (named or {}).items() if value not in (None, "")}),
        ("--set ", parse_assignments(assignments or [])),
    ]
    return build_settings(*(layer for _, layer in layers), origins=[origin for origin, _ in layers])


_kfp = functools.partial(typer.Option, rich_help_panel="Kubeflow Pipelines")


@dataclass(frozen=True)
class Connection:
    """Where Kubeflow Pipelines is and how to be let in: what kfp's own client takes."""

    host: Annotated[
        str, _kfp(envvar="KF_PIPELINES_ENDPOINT", help="Its URL; without it the pod's cluster or kubeconfig.")
    ] = ""
    ui_host: Annotated[str, _kfp(envvar="KF_PIPELINES_UI_ENDPOINT", help="Its UI's URL, if another.")] = ""
    namespace: Annotated[str, _kfp(help="Namespace that runs are in, where KFP serves several (profiles).")] = ""
    kfp_namespace: Annotated[str, _kfp(help="Namespace that KFP itself is in; for pods and kubeconfig.")] = "kubeflow"
    token: Annotated[str, _kfp(envvar="KF_PIPELINES_TOKEN", help="Bearer token; better in the variable.")] = ""
    token_file: Annotated[
        Path | None,
        _kfp(envvar="KF_PIPELINES_SA_TOKEN_PATH", help="File of a service account's token; read each time."),
    ] = None
    kube_context: Annotated[str, _kfp(help="Context of the kubeconfig; default: the current one.")] = ""
    ca: Annotated[Path | None, _kfp(help="CA bundle of its certificate.")] = None


@dataclass(frozen=True)
class RunInputs:
    """What a run on the cluster is made from."""

    preset: Preset = "paper-3b"
    annotations: Annotated[str, typer.Option(help="Annotations, as s3://; {date} is the day that a run starts.")] = ""
    videos: Annotated[str, typer.Option(help="Videos, as an s3:// prefix; {date} here too.")] = ""
    model: Model = ""
    from_champion: Annotated[
        bool,
        typer.Option("--from-champion", help="Start from the registry's champion; from the model if there is none."),
    ] = False
    rounds: Annotated[int | None, typer.Option(help="Rounds.")] = None
    seed: Seed = None
    settings_file: SettingsFile = None
    assignments: Assignments = None
    store: Annotated[str, typer.Option(envvar="DEEPVIDEO_STORE", help="Artifact store: s3://bucket/prefix.")] = ""
    tracking_uri: Annotated[
        str, typer.Option(envvar="DEEPVIDEO_TRACKING_URI", help="MLflow's address as pods see it.")
    ] = ""
    service_account: Annotated[str, typer.Option(help="Service account of the run's pods.")] = "deepvideo-runner"

    def settings(self) -> RunSettings:
        """The run's settings. Raises SettingsError for what cannot be used."""
        named: dict[str, Any] = {"ingest.annotations": self.annotations, "ingest.videos": self.videos}
        named |= {"ingest.model": self.model, "pipeline.rounds": self.rounds, "pipeline.seed": self.seed}
        settings = settings_from(self.preset, self.settings_file, self.assignments, named)
        if not self.from_champion:
            return settings
        if settings.ingest.model.startswith(REGISTRY):
            raise SettingsError(
                f"--from-champion: ingest.model is {settings.ingest.model} already; leave one of them out"
            )
        champion = f"models:/{settings.promotion.registered_model}@{settings.promotion.alias}"
        model = f"{champion} else {settings.ingest.model}"
        return settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"model": model})})


def grouped(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command as typer can read it: a parameter that is a dataclass of options becomes one option for each field."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for name, item in inspect.signature(command).parameters.items():
        if name not in groups:
            parameters.append(item.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        types = get_type_hints(groups[name], include_extras=True)
        for field in fields(groups[name]):
            kind, annotation = inspect.Parameter.KEYWORD_ONLY, types[field.name]
            parameters.append(inspect.Parameter(field.name, kind, default=field.default, annotation=annotation))

    @functools.wraps(command)
    def called(**values: Any) -> Any:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        return command(**values)

    del called.__dict__["__wrapped__"]
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {item.name: item.annotation for item in parameters}
    return called
