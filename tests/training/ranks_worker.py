"""A rank of `torchrun`: trains the same round once a variant of the settings, and saves gradients and updates.

`python -m tests.training.ranks_worker JOB`, where JOB is a JSON file: {"spec": a WorkerSpec, "steps": how many,
"variants": {name: settings that differ}}. Rank 0 writes NAME.safetensors beside JOB with `gradient/<parameter>` (of the
first step) and `update/<parameter>` (of all steps), both as every rank sees them whole.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["DS_ACCELERATOR"] = "cpu"
os.environ["TORCHDYNAMO_DISABLE"] = "1"

import torch
from safetensors.torch import save_file

from components.training import zero
from components.training.distributed import Place, join
from components.training.round import Round
from components.training.settings import TrainingSettings
from components.training.spec import WorkerSpec
from components.training.state import Adapter


def gather_everything(settings: TrainingSettings, parameters: int, make: Any = zero.engine_config) -> dict[str, Any]:
    """DeepSpeed's configuration without its exception for small tensors, which ZeRO-3 would leave whole on every rank."""
    config = make(settings, parameters)
    config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    return config


def run(spec: WorkerSpec, place: Place, steps: int) -> dict[str, torch.Tensor]:
    """The gradient of the first of `steps` optimizer steps, and what all of them changed."""
    from deepspeed.utils import safe_get_full_grad

    training = Round(spec, place)
    plan = training._plan()
    made = training._optimizer_steps(plan, training._score(training._prepare(plan)))
    before = zero.gathered_masters(training.parameters, keep=True)
    gradient: dict[str, torch.Tensor] = {}
    apply = made.engine.step

    def keep_gradient_and_apply() -> None:
        if not gradient:
            gradient.update({name: safe_get_full_grad(item).clone() for name, item in training.parameters.items()})
        apply()

    made.engine.step = keep_gradient_and_apply
    for _ in range(steps):
        made.step()
    assert made.position.optimizer_steps == steps
    after = zero.gathered_masters(training.parameters, keep=True)
    made.engine.destroy()
    found = {f"gradient/{name}": value.float().contiguous() for name, value in gradient.items()}
    return found | {f"update/{name}": after[name] - before[name] for name in after}


def main(job_file: Path) -> None:
    """Train every variant, one after the other, in this process."""
    job = json.loads(job_file.read_text())
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    zero.engine_config = gather_everything
    place = join()
    spec = WorkerSpec.model_validate(job["spec"])
    for name, changes in job["variants"].items():
        settings = TrainingSettings.model_validate({**spec.settings.model_dump(), **changes})
        adapter = Adapter.of(settings, "base")
        update = {"settings": settings, "adapter": adapter, "base": spec.policy if adapter else None}
        found = run(spec.model_copy(update=update), place, job["steps"])
        if place.leads:
            save_file(found, job_file.parent / f"{name}.safetensors")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
