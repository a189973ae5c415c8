"""One round of the DAG as a nested pipeline: sampling in one task or in three (each may have shards), then training."""

# no `from __future__ import annotations`: KFP reads types, not strings

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from kfp import dsl

from components.augmentation.component import augment_prompts
from components.difficulty.component import estimate
from components.rollout.component import roll_out_groups
from components.training.component import train_policy
from pipelines.fused_sampling.component import sample_round
from pipelines.inputs import declare
from pipelines.pods.inputs import pod_inputs
from pipelines.pods.placing import Place, placer, training_nodes
from pipelines.settings import RunSettings
from pipelines.sharded_sampling.loop import Generate, generator


class Round(NamedTuple):
    """What a round hands to the next."""

    policy: dsl.Model
    state: dsl.Artifact
    buffer: dsl.Artifact
    reports: dsl.Artifact


def fused_round(
    place: Place,
    nodes: dict[str, Any],
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
    """Sample on one engine, then train."""
    sampled = place(
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
        "sampling",
        "Difficulty, augmentation, rollout",
    )
    trained = place(
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
            **nodes,
        ),
        "training",
        "Training",
    )
    return Round(
        policy=trained.outputs["new_policy"],
        state=trained.outputs["new_state"],
        buffer=sampled.outputs["new_buffer"],
        reports=trained.outputs["new_reports"],
    )


def separate_round(
    place: Place,
    generate: Generate,
    nodes: dict[str, Any],
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
    """Measure difficulty, augment, roll out, train."""
    common = {"context": context, "settings": settings, "round_index": round_index, "dataset": dataset, "state": state}
    measured = generate(
        estimate, "difficulty", "Difficulty", policy=rollout_policy, buffer=buffer, reports=reports, **common
    )
    augmented = generate(
        augment_prompts,
        "augmentation",
        "Augmentation",
        policy=rollout_policy,
        difficulty=measured.outputs["difficulty"],
        reports=measured.outputs["new_reports"],
        **common,
    )
    rolled_out = generate(
        roll_out_groups,
        "rollout",
        "Rollout",
        policy=rollout_policy,
        difficulty=measured.outputs["difficulty"],
        augmentation=augmented.outputs["augmentation"],
        reports=augmented.outputs["new_reports"],
        **common,
    )
    trained = place(
        train_policy(
            policy=policy,
            reference=reference,
            groups=rolled_out.outputs["groups"],
            reports=rolled_out.outputs["new_reports"],
            **common,
            **nodes,
        ),
        "training",
        "Training",
    )
    return Round(
        policy=trained.outputs["new_policy"],
        state=trained.outputs["new_state"],
        buffer=measured.outputs["new_buffer"],
        reports=trained.outputs["new_reports"],
    )


def round_pipeline(settings: RunSettings, cluster: bool) -> Any:
    """The pipeline of a round. What a run sets of the pods comes in as further parameters, which every round hands on."""
    body: Callable[..., Round] = fused_round if settings.pipeline.fuse_sampling else separate_round
    pod_values = pod_inputs(settings) if cluster else {}
    not_given = ("place", "generate", "nodes")
    given = [item for name, item in inspect.signature(body).parameters.items() if name not in not_given]
    further = [inspect.Parameter(name, given[0].kind, annotation=type(value)) for name, value in pod_values.items()]

    def a_round(*values: Any) -> Round:  # KFP calls it with a channel for each parameter, in order
        channels = dict(zip([item.name for item in (*given, *further)], values, strict=True))
        inputs = {name: channels.pop(name) for name in pod_values}
        place, nodes = placer(settings, cluster, inputs), training_nodes(settings, cluster, inputs, "training")
        if settings.pipeline.fuse_sampling:
            return fused_round(place, nodes, **channels)
        return separate_round(place, generator(place, settings, cluster), nodes, **channels)

    declare(a_round, inspect.Signature([*given, *further], return_annotation=Round))
    return dsl.pipeline(name="round", description=body.__doc__)(a_round)
