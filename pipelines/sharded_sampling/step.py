"""A shard is its step itself, told by the context to make only a share of the chunks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, get_args

from components.shared.context import StepContext
from components.shared.sharding import Shard
from pipelines.faces import face_of


def sample_share(step: str, shard: str, given: Mapping[str, Any]) -> None:
    """Run the face of `step` as the shard that `shard` names ("shard 2 of 4").

    `given` are arguments of the face by name, among them what other steps' faces take. A shard writes no output:
    these are the merging task's, and stand-ins are handed in for them.
    """
    face = face_of(step)
    context = StepContext.model_validate_json(given["context"]).model_copy(update={"shard": Shard.parse(shard)})
    values = {**given, "context": context.model_dump_json()}
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(face).parameters.items():
        arguments[name] = values.get(name)
        if arguments[name] is None:
            kind = get_args(parameter.annotation)[0]
            arguments[name] = kind(name=name)
    face(**arguments)
