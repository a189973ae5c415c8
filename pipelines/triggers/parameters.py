"""A run's settings, divided: what its pipeline version has compiled in, and what the run is given as inputs."""

from __future__ import annotations

import re
from typing import Any

import yaml

from pipelines.cluster import refuse_useless, still_to_set
from pipelines.inputs import INPUTS, OVERRIDES, RUN_NAME, STORE, TRACKING
from pipelines.options import RunInputs
from pipelines.settings import RunSettings, SettingsError, build_settings, fields, is_compiled, load_preset
from pipelines.validation.step import check

# The DAG follows from these although a run may set them, within limits.
_SHAPING = ("warmup.num_train_epochs", "training.objective")
_DATE = re.compile(r"\{date(?::([^}]*))?\}")
_GO_DATES = {"%Y": "2006", "%m": "01", "%d": "02", "%H": "15", "%M": "04"}  # strftime -> Go's layout


def version_settings(preset: str, wanted: RunSettings) -> RunSettings:
    """The settings to compile: the preset's, with what of `wanted` can only be compiled in.

    Runs that differ in what a run can set then share one pipeline version.
    """
    compiled = {
        path: _value(wanted, path)
        for path, info in fields()
        if is_compiled(info) or path in _SHAPING or RunSettings.model_fields[path.partition(".")[0]].exclude
    }
    return build_settings(load_preset(preset), compiled)


def run_parameters(options: RunInputs, wanted: RunSettings, compiled: RunSettings, name: str = "") -> dict[str, Any]:
    """The pipeline's inputs for a run with the settings `wanted`, of a version that was made from `compiled`.

    What is no input of its own goes into the YAML of overrides. Raises SettingsError if the store is not named, if
    pods cannot use what is, or if the pipeline's first task would refuse the settings.
    """
    if not options.store:
        raise SettingsError(f"--store: is empty; give s3://bucket/prefix, or DEEPVIDEO_STORE (input {STORE})")
    refuse_useless(wanted, options.store)
    inputs = {ui_name: _value(wanted, path) for ui_name, path in INPUTS.items()}
    rest = {
        path: _value(wanted, path)
        for path, info in fields()
        if path not in INPUTS.values() and not is_compiled(info) and _value(wanted, path) != _value(compiled, path)
    }
    overrides = yaml.safe_dump(rest, width=1000, allow_unicode=True) if rest else ""
    inputs |= {STORE: options.store, TRACKING: options.tracking_uri, RUN_NAME: name, OVERRIDES: overrides}
    check(compiled.model_dump_json(), "run", inputs)
    return {key: moving(value) if isinstance(value, str) else value for key, value in inputs.items()}


def moving(text: str) -> str:
    """`{date}`, or `{date:%Y/%m/%d}`, as the macro that KFP replaces when a run starts, by the time in UTC.

    KFP's macro of the scheduled time stays as it is in runs that its scheduler submits (2.17); that of the current time
    does not, and a schedule without catch-up starts its runs when they are due.
    Raises SettingsError for a format of other parts than year, month, day, hour and minute.
    """

    def macro(found: re.Match[str]) -> str:
        layout = "%Y-%m-%d" if found[1] is None else found[1]
        for part, go in _GO_DATES.items():
            layout = layout.replace(part, go)
        if not layout or "%" in layout or re.sub("2006|01|02|15|04", "", layout).strip("-_/. :T"):
            raise SettingsError(
                f"{found[0]}: made of {', '.join(_GO_DATES)} and signs between them, such as {{date:%Y/%m/%d}}"
            )
        return f"[[CurrentTime.{layout}]]"

    return _DATE.sub(macro, text)


def refuse_unknown_braces(options: RunInputs, wanted: RunSettings) -> None:
    """Raise SettingsError for a place with braces that `moving` leaves as they are: most likely a misspelt date."""
    places = {f"ingest.{name}": getattr(wanted.ingest, name) for name in ("annotations", "videos", "model")}
    for name, place in (places | {"--store": options.store}).items():
        if found := re.search(r"\{[^}]*\}?", _DATE.sub("", place)):
            raise SettingsError(
                f"{name}: {place}: {found[0]} is unknown; {{date}} and, made of {', '.join(_GO_DATES)},"
                " {date:%Y/%m/%d} are known"
            )


def notes(options: RunInputs, wanted: RunSettings) -> list[str]:
    """What pods will not be able to use of these settings, a line each."""
    given = {STORE: options.store, TRACKING: options.tracking_uri}
    return still_to_set(wanted, [name for name, value in given.items() if value])


def _value(settings: RunSettings, path: str) -> Any:
    section, field = path.split(".")
    return getattr(settings, section).model_dump(mode="json")[field]
