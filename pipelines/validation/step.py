"""Turn a run's inputs into its settings and context, and find the champion it will challenge."""

from __future__ import annotations

import json
from typing import Any

from pydantic.fields import FieldInfo

from components.shared.context import StepContext
from components.shared.processes import die_with_parent
from components.shared.progress import step_finished, step_started
from components.shared.runs import begin_run
from components.shared.tracking import start_parent
from components.training.objectives import OBJECTIVES
from pipelines.inputs import OVERRIDES, RUN_NAME, STORE, TRACKING, as_overrides
from pipelines.overrides import parse_overrides
from pipelines.settings import RunSettings, SettingsError, build_settings
from pipelines.validation.registry_model import registry_model, remember_champion, with_found_model

STEP = "validation"


def run(base_settings: str, run_id: str, inputs: dict[str, Any]) -> tuple[str, str, str]:
    """The step as KFP calls it: (settings, context, champion), each as the text that later tasks are given."""
    die_with_parent()
    step_started(STEP)
    settings, context = check(base_settings, run_id, inputs)
    store = context.open_store()
    store.check()
    begin_run(store, context.run_name)
    champion = remember_champion(settings, context)
    settings = with_found_model(settings, context)
    parent = start_parent(context, settings.model_dump(mode="json"))
    context = context.model_copy(update={"parent_run_id": parent})
    step_finished(STEP, 0.0)
    return json.dumps(settings.model_dump(mode="json"), sort_keys=True), context.model_dump_json(), champion


def check(base_settings: str, run_id: str, inputs: dict[str, Any]) -> tuple[RunSettings, StepContext]:
    """A run's settings and context. Inputs win over the settings that were compiled in, overrides over both.

    Raises SettingsError for settings that cannot be used, or that shape the DAG and differ from what was compiled.
    """
    inputs = dict(inputs)
    store, tracking_uri = inputs.pop(STORE), inputs.pop(TRACKING)
    run_name = inputs.pop(RUN_NAME) or run_id
    overrides = parse_overrides(inputs.pop(OVERRIDES), OVERRIDES)
    if about_pods := sorted(name for name in overrides if RunSettings.model_fields.get(name, FieldInfo()).exclude):
        raise SettingsError(
            f"{OVERRIDES}: {', '.join(about_pods)}: compiled in; compile the pipeline again to change it"
        )
    compiled = RunSettings.model_validate_json(base_settings)
    layers = (compiled.model_dump(mode="json"), as_overrides(inputs), overrides)
    settings = build_settings(*layers, origins=("", "", f"{OVERRIDES}: "))
    for name in ("rounds", "fuse_sampling"):
        if getattr(settings.pipeline, name) != getattr(compiled.pipeline, name):
            raise SettingsError(f"pipeline.{name}: is compiled in; compile the pipeline again to change it")
    if bool(settings.warmup.num_train_epochs) != bool(compiled.warmup.num_train_epochs):
        raise SettingsError(
            "warmup.num_train_epochs: whether there is a warm-up is compiled in; compile the pipeline again to change it"
        )
    objective, compiled_for = settings.training.objective, compiled.training.objective
    if OBJECTIVES[objective].rollout_policy != OBJECTIVES[compiled_for].rollout_policy:
        raise SettingsError(
            f"training.objective: {objective} is trained on another policy's samples than {compiled_for}, which is"
            " compiled in; compile the pipeline again to change it"
        )
    registry_model(settings.ingest.model)
    if not store:
        raise SettingsError(f"{STORE}: is empty; give s3://bucket/prefix, file:///folder or a folder")
    context = StepContext(
        store=store,
        store_settings=settings.store,
        seed=settings.pipeline.seed,
        run_name=run_name,
        tracking_uri=tracking_uri,
        experiment=settings.pipeline.experiment,
    )
    return settings, context
