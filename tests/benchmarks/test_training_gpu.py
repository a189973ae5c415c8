"""The GPU benchmark runs on torch and transformers alone; here on the CPU, with a tiny model."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.benchmarks.race.adamw import MasterAdamW
from tests.benchmarks.training_gpu import peak_tflops

ROOT = Path(__file__).parents[2]

# Runs a module where nothing can be imported but the standard library and the packages of the first argument.
ALONE = """
import json, runpy, sys
allowed = {*sys.stdlib_module_names, *json.loads(sys.argv[1])}
class Only:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return self.finder.find_spec(name, path, target) if name.partition(".")[0] in allowed else None
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = [Only(finder) for finder in sys.meta_path]
sys.argv = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def with_requirements(*names: str) -> set[str]:
    """The modules of some distributions and of all that they require, without extras."""
    modules = metadata.packages_distributions()
    todo, seen = list(names), set[str]()
    while todo:
        if (name := canonicalize_name(todo.pop())) in seen:
            continue
        seen.add(name)
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # a requirement of other platforms
            continue
        wanted = [Requirement(line) for line in lines]
        todo += [item.name for item in wanted if item.marker is None or item.marker.evaluate({"extra": ""})]
    return {module for module, owners in modules.items() if any(canonicalize_name(owner) in seen for owner in owners)}


def test_it_needs_torch_and_transformers_and_nothing_else(tmp_path: Path) -> None:
    allowed = with_requirements("torch", "transformers") - {"pydantic"}  # what brings it is a command line of theirs
    assert not allowed & {"jaxtyping", "deepspeed", "matplotlib", "torchvision"}
    arguments = ["--device", "cpu", "--models", "tiny", "--repetitions", "1", "--peak-tflops", "1"]
    module = ["tests.benchmarks.training_gpu", *arguments, "--output", str(tmp_path)]
    given = json.dumps(sorted({*allowed, "components", "tests"}))
    subprocess.run([sys.executable, "-c", ALONE, given, *module], cwd=ROOT, check=True)
    content = json.loads((tmp_path / "training_gpu.json").read_text())
    assert len(content["measured"]) == 2
    for entry in content["measured"]:
        assert entry["ended"] is None
        step, scoring = entry["step"], entry["scoring"]
        assert step["mfu"] == step["operations"] / step["median_seconds"] / 1e12
        assert step["operations"] > 3 * scoring["operations"] > 0
        assert 0 < entry["optimizer_seconds"] < step["median_seconds"]
    assert "| tiny | 64/8/4 |" in (tmp_path / "training_gpu.md").read_text()


@pytest.mark.parametrize(
    ("device", "given", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", None, 989.0),
        ("NVIDIA H100 PCIe", None, 756.0),
        ("NVIDIA H200", None, 989.0),
        ("NVIDIA H20", None, 148.0),
        ("NVIDIA A100-SXM4-80GB", None, 312.0),
        ("NVIDIA H200", 500.0, 500.0),
        ("another", None, None),
    ],
)
def test_the_peak_is_the_devices(device: str, given: float | None, expected: float | None) -> None:
    assert peak_tflops(device, given) == expected


def test_the_optimizer_is_adamw_on_fp32_masters() -> None:
    weight = torch.nn.Parameter(torch.linspace(-1, 1, 8).bfloat16())
    master = torch.nn.Parameter(weight.detach().float())
    ours, reference = MasterAdamW([weight], lr=1e-4), torch.optim.AdamW([master], lr=1e-4)
    for step in range(20):
        gradient = torch.sin(torch.arange(8.0) + step).bfloat16()
        weight.grad, master.grad = gradient.clone(), gradient.float()
        ours.step()
        reference.step()
        assert weight.grad is None
    assert torch.equal(ours.masters[0], master)
    assert torch.equal(weight, master.bfloat16())
