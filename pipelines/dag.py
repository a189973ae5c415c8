"""The DAG: ingest, evaluation before, a warm-up if there is one, the rounds unrolled, evaluation after, promotion, report."""

# no `from __future__ import annotations`: KFP reads types, not strings

from pathlib import Path
from typing import Any, NamedTuple

from kfp import compiler, dsl

from components.augmentation.component import augment_prompts
from components.difficulty.component import estimate
from components.evaluation.component import evaluate_base, evaluate_champion, evaluate_trained
from components.ingest.component import ingest_data
from components.promotion.component import promote_policy
from components.report.component import write_report
from components.rollout.component import roll_out_groups
from components.training.component import train_policy, warm_up_policy
from components.training.objectives import OBJECTIVES
from pipelines.fused_sampling.component import sample_round
from pipelines.inputs import documentation, signature
from pipelines.settings import RunSettings
from pipelines.sharing import share_equal_parts
from pipelines.validation.component import validate_inputs

NAME = "deepvideo-r1"


def _task(task: dsl.PipelineTask, display_name: str) -> dsl.PipelineTask:
    """The task under its name in the UI, without KFP's caching: its key knows names, not contents. Ours is the ledger."""
    return task.set_display_name(display_name).set_caching_options(False)


class Report(NamedTuple):
    """What the pipeline puts out: the reference to the run's report."""

    report: dsl.Artifact


class Round(NamedTuple):
    """What a round hands to the next."""

    policy: dsl.Model
    state: dsl.Artifact
    buffer: dsl.Artifact
    reports: dsl.Artifact


@dsl.pipeline(name="round", description="Sample on one engine, then train.")
def fused_round(
    context: str,
    settings: str,
    round_index: int,
    dataset: dsl.Input[dsl.Dataset],
    policy: dsl.Input[dsl.Model],
    rollout_policy: dsl.Input[dsl.Model],
    reference: dsl.Input[dsl.Model],
    state: dsl.Input[dsl.Artifact],
    buffer: dsl.Input[dsl.Artifact],
    reports: dsl.Input[dsl.Artifact],
) -> Round:
    sampled = _task(
        sample_round(
            context=context,
            settings=settings,
            round_index=round_index,
            dataset=dataset,
            policy=rollout_policy,
            buffer=buffer,
            state=state,
            reports=reports,
        ),
        "Difficulty, augmentation, rollout",
    )
    trained = _task(
        train_policy(
            context=context,
            settings=settings,
            round_index=round_index,
            dataset=dataset,
            policy=policy,
            reference=reference,
            groups=sampled.outputs["groups"],
            state=state,
            reports=sampled.outputs["new_reports"],
        ),
        "Training",
    )
    return Round(
        policy=trained.outputs["new_policy"],
        state=trained.outputs["new_state"],
        buffer=sampled.outputs["new_buffer"],
        reports=trained.outputs["new_reports"],
    )


@dsl.pipeline(name="round", description="Measure difficulty, augment, roll out, train.")
def separate_round(
    context: str,
    settings: str,
    round_index: int,
    dataset: dsl.Input[dsl.Dataset],
    policy: dsl.Input[dsl.Model],
    rollout_policy: dsl.Input[dsl.Model],
    reference: dsl.Input[dsl.Model],
    state: dsl.Input[dsl.Artifact],
    buffer: dsl.Input[dsl.Artifact],
    reports: dsl.Input[dsl.Artifact],
) -> Round:
    common = {"context": context, "settings": settings, "round_index": round_index, "dataset": dataset, "state": state}
    measured = _task(estimate(policy=rollout_policy, buffer=buffer, reports=reports, **common), "Difficulty")
    augmented = _task(
        augment_prompts(
            policy=rollout_policy,
            difficulty=measured.outputs["difficulty"],
            reports=measured.outputs["new_reports"],
            **common,
        ),
        "Augmentation",
    )
    rolled_out = _task(
        roll_out_groups(
            policy=rollout_policy,
            difficulty=measured.outputs["difficulty"],
            augmentation=augmented.outputs["augmentation"],
            reports=augmented.outputs["new_reports"],
            **common,
        ),
        "Rollout",
    )
    trained = _task(
        train_policy(
            policy=policy,
            reference=reference,
            groups=rolled_out.outputs["groups"],
            reports=rolled_out.outputs["new_reports"],
            **common,
        ),
        "Training",
    )
    return Round(
        policy=trained.outputs["new_policy"],
        state=trained.outputs["new_state"],
        buffer=measured.outputs["new_buffer"],
        reports=trained.outputs["new_reports"],
    )


def build_pipeline(settings: RunSettings, **defaults: str) -> Any:
    """The pipeline for these settings: rounds and fusing are compiled in, the inputs' defaults are the settings' values.

    `defaults` are defaults of the inputs that are no settings (`run_store`, `run_name`, `run_tracking_uri`).
    """
    compiled_in = settings.model_dump_json()

    parameters = signature(settings, **defaults).replace(return_annotation=Report)

    def deepvideo_r1(*values: Any) -> Report:  # KFP calls it with a channel for each parameter, in order
        inputs = dict(zip(parameters.parameters, values, strict=True))
        checked = _task(
            validate_inputs(base_settings=compiled_in, run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER, **inputs), "Check inputs"
        )
        given = {"context": checked.outputs["context"], "settings": checked.outputs["settings"]}
        data = _task(ingest_data(**given), "Ingest")
        dataset, base = data.outputs["dataset"], data.outputs["policy"]
        before = _task(
            evaluate_base(dataset=dataset, policy=base, reports=data.outputs["new_reports"], **given),
            "Evaluation before",
        )
        latest = {name: data.outputs[name] for name in ("policy", "state", "buffer")}
        latest["reports"] = before.outputs["new_reports"]
        if settings.warmup.num_train_epochs:
            warm = _task(
                warm_up_policy(dataset=dataset, policy=base, reports=latest["reports"], **given), "Supervised warm-up"
            )
            latest |= {"policy": warm.outputs["new_policy"], "reports": warm.outputs["new_reports"]}
        first = latest["policy"]  # of the rounds: the reference of all of them
        from_first = OBJECTIVES[settings.training.objective].rollout_policy == "reference"
        for index in range(1, settings.pipeline.rounds + 1):
            a_round = fused_round if settings.pipeline.fuse_sampling else separate_round
            policies = {"rollout_policy": first if from_first else latest["policy"], "reference": first}
            task = a_round(round_index=index, dataset=dataset, **policies, **latest, **given)
            task.set_display_name(f"Round {index}")
            latest = {name: task.outputs[name] for name in Round._fields}
        after = _task(
            evaluate_trained(
                dataset=dataset,
                policy=latest["policy"],
                baseline=before.outputs["scores"],
                reports=latest["reports"],
                **given,
            ),
            "Evaluation after",
        )
        champion = _task(
            evaluate_champion(
                champion=checked.outputs["champion"],
                dataset=dataset,
                base=base,
                scores_base=before.outputs["scores"],
                reports=after.outputs["new_reports"],
                **given,
            ),
            "Evaluation of the champion",
        )
        promoted = _task(
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
            "Promotion",
        )
        written = _task(
            write_report(
                dataset=dataset,
                base=base,
                policy=latest["policy"],
                scores_before=before.outputs["scores"],
                scores_after=after.outputs["scores"],
                reports=promoted.outputs["new_reports"],
                **given,
            ),
            "Report",
        )
        return Report(report=written.outputs["report"])

    deepvideo_r1.__doc__ = (
        "Reinforcement learning of a video language model by Reg-GRPO with difficulty-aware augmentation.\n\n"
        f"Args:\n{documentation()}\n"
    )
    deepvideo_r1.__signature__ = parameters  # type: ignore[attr-defined]
    annotations = {name: item.annotation for name, item in parameters.parameters.items()}
    deepvideo_r1.__annotations__ = annotations | {"return": Report}
    return dsl.pipeline(name=NAME, display_name="DeepVideo-R1")(deepvideo_r1)


def compile_pipeline(settings: RunSettings, path: Path, **defaults: str) -> Path:
    """Write the pipeline's IR YAML to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(build_pipeline(settings, **defaults), str(path))
    share_equal_parts(path)
    return path
