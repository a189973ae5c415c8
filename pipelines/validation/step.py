"""Turn a run's inputs into its settings and context, and find the champion it will challenge."""

from __future__ import annotations

import json
from typing import Any

from pydantic.fields import FieldInfo

from components.ingest.errors import IngestError
from components.ingest.settings import IngestSettings
from components.ingest.sources import open_source, split_uri
from components.shared.context import StepContext
from components.shared.processes import die_with_parent
from components.shared.progress import step_finished, step_started
from components.shared.runs import begin_run
from components.shared.store import open_store
from components.shared.tracking import start_parent
from components.training.objectives import OBJECTIVES
from pipelines.inputs import OVERRIDES, RUN_NAME, STORE, TRACKING, as_overrides
from pipelines.overrides import parse_overrides
from pipelines.pods.inputs import POD_INPUTS
from pipelines.settings import RunSettings, SettingsError, build_settings
from pipelines.validation.model_size import read_model_size
from pipelines.validation.registry_model import registry_model, remember_champion, with_found_model
from pipelines.validation.room import PodPlan, check_room

STEP = "validation"
KFP_RUN_TAG = "kfp.pipeline_run_id"  # the tag of KFP's own MLflow integration
_STORE_PATIENCE = 20  # seconds


def run(base_settings: str, run_id: str, inputs: dict[str, Any], pods: str = "") -> tuple[str, str, str]:
    """The step as KFP calls it: (settings, context, champion), each as the text that later tasks are given.

    `pods` is a PodPlan as JSON, empty for a local run. What cannot work is refused within a minute.
    """
    die_with_parent()
    step_started(STEP)
    pod_names = {name.removeprefix("cluster_"): name for name in POD_INPUTS}
    run_inputs = {pod_names[name]: inputs.pop(name) for name in list(inputs) if name in pod_names}
    settings, context = check(base_settings, run_id, inputs)
    context = context.in_this_task()
    soon = settings.store.model_copy(update={"patience": min(settings.store.patience, _STORE_PATIENCE)})
    open_store(context.store, soon).check()
    settings = with_found_model(settings, context)
    model = read_model_size(settings.ingest)
    check_inputs(settings.ingest)
    if pods:
        lines = check_room(PodPlan.model_validate_json(pods), model, settings, run_inputs)
        print("\n".join(["Expected of the rounds, at most:", *lines]))
    begin_run(context.open_store(), context.run_name)
    parent = start_parent(context, settings.model_dump(mode="json"), {KFP_RUN_TAG: run_id})
    champion = remember_champion(settings, context)
    context = context.model_copy(update={"parent_run_id": parent})  # every later task has a run of its own
    step_finished(STEP, 0.0)
    return (
        json.dumps(settings.model_dump(mode="json"), sort_keys=True),
        context.model_copy(update={"task_run_id": ""}).model_dump_json(),
        champion,
    )


def check_inputs(settings: IngestSettings) -> None:
    """Raises IngestError if the annotations, where they lie in S3, are not there."""
    if settings.annotations.startswith("s3://"):
        root, name = split_uri(settings.annotations)
        if open_source(root).stamp(name) is None:
            raise IngestError(f"ingest.annotations: there is no {settings.annotations}; correct the name, or upload it")


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
    for name in ("rounds", "fuse_sampling", "shards", "evaluation_shards"):
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
