"""A generating step in the DAG: one task, or a loop of shards and the task that merges what they leave in the store."""

# no `from __future__ import annotations`: KFP reads types, not strings

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

from kfp import dsl

from components.shared.sharding import Shard
from pipelines.pods.placing import Place
from pipelines.settings import RunSettings
from pipelines.sharded_sampling.component import sample_share

Generate = Callable[..., dsl.PipelineTask]


def generator(place: Place, settings: RunSettings, cluster: bool) -> Generate:
    """What makes the task of a generating step, given its component, name, title in the UI, and the component's inputs.

    With several shards it stands behind a loop of them, and asks for no GPU. The name is one of `pipelines.faces`;
    what stands before its "-" is the step whose pods' settings count. On one machine shards take turns: an engine takes
    the memory of the GPU that there is.
    """

    def generate(component: Any, name: str, title: str, **inputs: Any) -> dsl.PipelineTask:
        step, shards = name.partition("-")[0], settings.pipeline.shards_of(name)
        if shards == 1:
            return place(component(**inputs), step, title)
        items = [str(shard) for shard in Shard.all_of(shards)]
        with dsl.ParallelFor(items, name=f"{title}, {shards} shards", parallelism=None if cluster else 1) as shard:
            share = place(_named(f"{name}-shard")(step=name, shard=shard, **inputs), step, f"{title}, shard")
        return place(component(**inputs).after(share), step, title, merges=shards)

    return generate


def _named(name: str) -> Any:
    """The shard's component under a name of its own, which its tasks are called by."""
    component = copy.copy(sample_share)
    component.component_spec = dataclasses.replace(component.component_spec, name=name)
    component.name = name
    return component
