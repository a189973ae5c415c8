"""Two ranks against one: groups of unequal size, an odd number of them, every ZeRO stage, optimizer and parameter offload.

All variants share one launch of two ranks over gloo and one of a single rank. Ranks that do not make the same collective
calls fail or hang; the launch's deadline ends a hang.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from components.shared.context import StepContext
from components.shared.groups import groups_to_parquet
from components.shared.sampling.artifacts import GROUPS
from components.training.settings import TrainingSettings
from components.training.spec import WorkerSpec
from tests.training_fixtures import make_group, write_dataset

RESPONSES = (2, 5, 3, 4, 2, 6, 3)  # of each group
STEPS = 5
DEADLINE_S = 600
SETTINGS = TrainingSettings(
    learning_rate=1e-4, beta=0.05, steps_per_generation=1, num_iterations=STEPS, dtype="float32", checkpoint_steps=0,
)  # fmt: skip
STAGES = {f"zero{stage}": {"zero_stage": stage} for stage in (1, 2, 3)}
OFFLOADED = {
    "zero1-offload": {"zero_stage": 1, "offload_optimizer": True},
    "zero2-offload": {"zero_stage": 2, "offload_optimizer": True},
    "zero3-offload": {"zero_stage": 3, "offload_optimizer": True, "offload_param": True},
}
RECOMPUTING = {"zero3-recomputing": {"zero_stage": 3, "gradient_checkpointing": True}}
LORA = {f"lora-{name}": {**given, "lora_r": 4} for name, given in STAGES.items()}
KINDS: dict[str, dict[str, object]] = {"full": {}, "lora": {"lora_r": 4}, "bf16": {"dtype": "bfloat16"}}
IN_BF16 = {f"bf16-{name}": {**given, "dtype": "bfloat16"} for name, given in STAGES.items()}


@pytest.fixture(scope="module")
def spec(policy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> WorkerSpec:
    """A round of 7 groups with 2 to 6 responses each, augmented ones among them."""
    root = tmp_path_factory.mktemp("ranks")
    write_dataset(root / "dataset", len(RESPONSES))
    kinds = ("none", "hint", "noise")
    groups = [
        make_group(root / "dataset", policy_folder, f"s{i:02d}", responses=count, kind=kinds[i % 3])
        for i, count in enumerate(RESPONSES)
    ]
    (root / GROUPS).write_bytes(groups_to_parquet(groups))
    (root / "state").mkdir()
    return WorkerSpec(
        settings=SETTINGS,
        context=StepContext(store=str(root / "store"), seed=3, round=1),
        key="ranks",
        dataset=root / "dataset",
        policy=policy_folder,
        base=None,
        adapter=None,
        reference=None,
        groups=root / GROUPS,
        state=root / "state",
        output=root,
    )


def launch(
    spec: WorkerSpec, folder: Path, ranks: int, variants: dict[str, dict[str, object]]
) -> dict[str, dict[str, torch.Tensor]]:
    """What each variant's ranks saved. Fails with the launch's output, also if it does not end."""
    folder.mkdir()
    job = folder / "job.json"
    job.write_text(json.dumps({"spec": spec.model_dump(mode="json"), "steps": STEPS, "variants": variants}))
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": root}
    argv = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    done = subprocess.run(
        [*argv, "-m", "tests.training.ranks_worker", str(job)],
        cwd=root, env=env, timeout=DEADLINE_S, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return {name: load_file(folder / f"{name}.safetensors") for name in variants}


def distance(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], what: str) -> float:
    """||ours - theirs|| / ||theirs|| over all parameters together."""
    names = [name for name in theirs if name.startswith(f"{what}/")]
    assert len(names) > 40 and {name for name in ours if name.startswith(f"{what}/")} == set(names)
    mine, other = (torch.cat([of[name].double().flatten() for name in names]) for of in (ours, theirs))
    return ((mine - other).norm() / other.norm()).item()


def test_two_ranks_take_the_steps_of_one(spec: WorkerSpec, tmp_path: Path) -> None:
    alone = {name: {"zero_stage": 2, **changes} for name, changes in KINDS.items()}
    one = launch(spec, tmp_path / "one", 1, alone)
    two = launch(spec, tmp_path / "two", 2, STAGES | OFFLOADED | RECOMPUTING | LORA | IN_BF16)
    for name, found in two.items():
        kind = next((kind for kind in KINDS if name.startswith(kind)), "full")
        gradient, update = (distance(found, one[kind], what) for what in ("gradient", "update"))
        # bf16 rounds gradients to 2^-9 of themselves, and Adam turns that into as much of an update
        most = (1e-2, 5e-2) if kind == "bf16" else (1e-5, 1e-3)
        assert gradient <= most[0] and update <= most[1], (name, gradient, update)
