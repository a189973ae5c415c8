"""The DAG: ingest, evaluation before, a warm-up if there is one, the rounds unrolled, evaluation after, promotion, report."""

# no `from __future__ import annotations`: KFP reads types, not strings

import inspect
from pathlib import Path
from typing import Any, NamedTuple

from kfp import compiler, dsl

from components.evaluation.component import evaluate_base, evaluate_champion, evaluate_trained
from components.ingest.component import ingest_data
from components.promotion.component import promote_policy
from components.report.component import write_report
from components.training.component import warm_up_policy
from components.training.objectives import OBJECTIVES
from pipelines.closing.component import close_run
from pipelines.inputs import RUN_NAME, STORE, TRACKING, add_choices, declare, documentation, signature
from pipelines.pods.inputs import pod_inputs
from pipelines.pods.placing import Place, placer, training_nodes
from pipelines.rounds import Round, round_pipeline
from pipelines.settings import RunSettings
from pipelines.sharded_sampling.loop import generator
from pipelines.sharing import share_equal_parts
from pipelines.validation.component import validate_inputs
from pipelines.validation.room import PodPlan

NAME = "deepvideo-r1"


class Report(NamedTuple):
    """What a local run's pipeline puts out: the reference to the run's report."""

    report: dsl.Artifact


def build_pipeline(settings: RunSettings, cluster: bool = True, **defaults: str) -> Any:
    """The pipeline for these settings: rounds and fusing are compiled in, the inputs' defaults are the settings' values.

    For a `cluster` its tasks get the settings of their pods, and retries; a local run has neither. `defaults` are
    defaults of the inputs that are no settings (`run_store`, `run_name`, `run_tracking_uri`).
    """
    a_round = round_pipeline(settings, cluster)
    pod_values = pod_inputs(settings) if cluster else {}
    # KFP lets nothing out of an exit handler's group
    output = inspect.Signature.empty if cluster else Report
    parameters = signature(settings, pod_values, **defaults).replace(return_annotation=output)

    def deepvideo_r1(*values: Any) -> Report | None:  # KFP calls it with a channel for each parameter, in order
        inputs = dict(zip(parameters.parameters, values, strict=True))
        pod_channels = {name: inputs.pop(name) for name in pod_values}
        place = placer(settings, cluster, pod_channels)
        if not cluster:  # the command line closes a local run itself, also after Ctrl-C
            return _tasks(settings, place, a_round, inputs, pod_channels)
        known = {name: inputs[name] for name in (RUN_NAME, STORE, TRACKING, "run_experiment")}
        notification = settings.notification.model_dump_json()
        closing = close_run(run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER, notification=notification, **known)
        with dsl.ExitHandler(place(closing, "closing", "Close the run"), name="Run"):
            _tasks(settings, place, a_round, inputs, pod_channels)
        return None

    deepvideo_r1.__doc__ = (
        "Reinforcement learning of a video language model by Reg-GRPO with difficulty-aware augmentation.\n\n"
        f"Args:\n{documentation(parameters)}\n"
    )
    declare(deepvideo_r1, parameters)
    return dsl.pipeline(name=NAME, display_name="DeepVideo-R1")(deepvideo_r1)


def _tasks(settings: RunSettings, place: Place, a_round: Any, inputs: dict[str, Any], pods: dict[str, Any]) -> Report:
    """All tasks of a run. `inputs` and `pods` are the pipeline's channels by name; without `pods` it is a local run."""
    known = {name.removeprefix("cluster_"): channel for name, channel in pods.items()}
    about_pods = {name: channel for name, channel in known.items() if name in validate_inputs.component_spec.inputs}
    if pods:
        about_pods["pods"] = PodPlan.of(settings).model_dump_json()
    checked = place(
        validate_inputs(
            base_settings=settings.model_dump_json(), run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER, **inputs, **about_pods
        ),
        "validation",
        "Check inputs",
    )
    given = {"context": checked.outputs["context"], "settings": checked.outputs["settings"]}
    data = place(ingest_data(**given), "ingest", "Ingest")
    dataset, base = data.outputs["dataset"], data.outputs["policy"]
    generate = generator(place, settings, cluster=bool(pods))
    before = generate(
        evaluate_base,
        "evaluation-before",
        "Evaluation before",
        dataset=dataset,
        policy=base,
        reports=data.outputs["new_reports"],
        **given,
    )
    latest = {name: data.outputs[name] for name in ("policy", "state", "buffer")}
    latest["reports"] = before.outputs["new_reports"]
    if settings.warmup.num_train_epochs:
        nodes = training_nodes(settings, bool(pods), pods, "warmup")
        warm = place(
            warm_up_policy(dataset=dataset, policy=base, reports=latest["reports"], **given, **nodes),
            "warmup",
            "Supervised warm-up",
        )
        latest |= {"policy": warm.outputs["new_policy"], "reports": warm.outputs["new_reports"]}
    first = latest["policy"]  # of the rounds: the reference of all of them
    from_first = OBJECTIVES[settings.training.objective].rollout_policy == "reference"
    for index in range(1, settings.pipeline.rounds + 1):
        policies = {"rollout_policy": first if from_first else latest["policy"], "reference": first}
        task = a_round(round_index=index, dataset=dataset, **policies, **latest, **given, **pods)
        task.set_display_name(f"Round {index}")
        latest = {name: task.outputs[name] for name in Round._fields}
    after = generate(
        evaluate_trained,
        "evaluation-after",
        "Evaluation after",
        dataset=dataset,
        policy=latest["policy"],
        baseline=before.outputs["scores"],
        reports=latest["reports"],
        **given,
    )
    champion = generate(
        evaluate_champion,
        "evaluation-champion",
        "Evaluation of the champion",
        champion=checked.outputs["champion"],
        dataset=dataset,
        base=base,
        scores_base=before.outputs["scores"],
        reports=after.outputs["new_reports"],
        **given,
    )
    promoted = place(
        promote_policy(
            champion=checked.outputs["champion"],
            dataset=dataset,
            base=base,
            candidate=latest["policy"],
            scores_before=before.outputs["scores"],
            scores_after=after.outputs["scores"],
            scores_champion=champion.outputs["scores"],
            reports=champion.outputs["new_reports"],
            **given,
        ),
        "promotion",
        "Promotion",
    )
    written = place(
        write_report(
            dataset=dataset,
            base=base,
            policy=latest["policy"],
            scores_before=before.outputs["scores"],
            scores_after=after.outputs["scores"],
            reports=promoted.outputs["new_reports"],
            **given,
        ),
        "report",
        "Report",
    )
    return Report(report=written.outputs["report"])


def compile_pipeline(settings: RunSettings, path: Path, cluster: bool = True, **defaults: str) -> Path:
    """Write the pipeline's IR YAML to `path`. Raises SettingsError for pods that do not fit what their steps use."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pipeline = build_pipeline(settings, cluster, **defaults)
    add_choices(pipeline.pipeline_spec, settings)
    compiler.Compiler().compile(pipeline, str(path))
    share_equal_parts(path)
    return path
