"""Whether the contestants do equal work: the same log-probs and the same gradients from the same weights.

    python -m tests.benchmarks.race.equality SHAPE POINT TRL

All three as JSON; prints the differences as JSON. Rows are compared with the packed step on the race's own loss; TRL, which
takes token ids only and has GRPO's loss, with the packed step on the same ids and our own `grpo` objective.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from components.training.objectives import OBJECTIVES
from tests.benchmarks.race import contestants
from tests.benchmarks.race.groups import MadeGroup, Prompt, made_group
from tests.benchmarks.race.models import text_model, vision_language_model
from tests.benchmarks.race.shapes import ModelShape, Point

TOLERANCE = 1e-4  # nats for a log-prob; of its norm for a weight's gradient
GRPO: Any = SimpleNamespace(
    **{
        **vars(contestants.SETTINGS),
        "declared": OBJECTIVES["grpo"],
        "epsilon": 0.2,
        "epsilon_high": 0.0,
        "loss_type": "grpo",
    }
)


def ids_only(group: MadeGroup, shape: ModelShape) -> MadeGroup:
    """The group as a text: the same ids at positions 0, 1, ..., each embedded as what it is."""
    prompt = group.prompt
    text = Prompt(prompt.input_ids % (shape.vocabulary - 4), torch.arange(len(prompt.input_ids)).expand(3, -1))
    return replace(group, prompt=text, features=group.features[:0])


def difference(one: tuple[Tensor, dict[str, Tensor]], other: tuple[Tensor, dict[str, Tensor]]) -> dict[str, float]:
    """The largest difference of a log-prob, and of a weight's gradient by the gradient's norm."""
    gradients = [
        float((one[1][name] - gradient).norm() / gradient.norm().clamp(min=1e-12))
        for name, gradient in other[1].items()
    ]
    return {"logprob": float((one[0] - other[0]).abs().max()), "gradient": float(np.max(gradients))}


def differences(shape: ModelShape, point: Point, *, trl: bool) -> dict[str, dict[str, float]]:
    """Contestant -> how far it is from the packed step."""
    group = made_group(shape, point)
    packed = _taken(vision_language_model(shape), contestants.packed, group)
    found = {
        step.__name__: difference(_taken(vision_language_model(shape), step, group), packed)
        for step in (contestants.rows_in_a_batch, contestants.rows_one_by_one)
    }
    if trl:
        from tests.benchmarks.race.trl_rows import trl_rows

        text = ids_only(group, shape)
        packed = _taken(vision_language_model(shape), contestants.packed, text, GRPO)
        with tempfile.TemporaryDirectory() as folder:
            found["trl_rows"] = difference(_taken(text_model(shape), trl_rows, text, folder), packed)
    return found


def _taken(model: Any, contestant: Any, *arguments: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probs and gradients by name after the contestant's step. A Qwen2.5-VL's text weights are named as Qwen2's."""
    logprobs = contestant(model, *arguments)()
    return logprobs, {
        name.replace("language_model.", ""): parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def main() -> None:
    """Compare, print."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    shape, point, trl = (json.loads(argument) for argument in sys.argv[1:4])
    channel.write(json.dumps(differences(ModelShape(*shape), Point(*point), trl=trl)) + "\n")
    channel.flush()


if __name__ == "__main__":
    main()
