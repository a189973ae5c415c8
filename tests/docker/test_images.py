"""The images: what each installs is what its steps import, and how the Dockerfile builds them."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from components.shared.images import ROLES, VERSION

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {"light": "light", "generation": "generation-cpu", "training": "training-cpu"}
# Imported under another name than by an import statement: KFP starts every step; processors load torchvision.
STARTED_OTHERWISE = {"kfp", "torchvision"}


def load(path: Path):  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


imports = load(Path(__file__).with_name("imports.py"))


def declared(role: str) -> set[str]:
    """The distributions that an image asks for by name."""
    named = PROJECT["dependencies"] + PROJECT["optional-dependencies"][EXTRAS[role]]
    return {canonicalize_name(Requirement(item).name) for item in named}


def with_their_own(names: set[str]) -> set[str]:
    """The distributions, and all that they need, as they are installed here."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found.add(name)
        try:
            needed = [Requirement(item) for item in metadata.requires(name) or ()]
        except metadata.PackageNotFoundError:
            continue  # another platform's
        waiting += [item.name for item in needed if item.marker is None or item.marker.evaluate({"extra": ""})]
    return found


@functools.cache
def owners() -> dict[str, set[str]]:
    """Top-level package -> the distributions that bring it."""
    found = metadata.packages_distributions()
    return {package: {canonicalize_name(name) for name in names} for package, names in found.items()}


def distributions_of(package: str) -> set[str]:
    return owners().get(package, set())


def test_every_step_belongs_to_an_image() -> None:
    faces = [*ROOT.glob("components/*/component.py"), *ROOT.glob("pipelines/*/component.py")]
    assert sorted(step for role in ROLES for step in imports.steps_of(role)) == sorted(map(imports._name, faces))


@pytest.mark.parametrize("role", ROLES)
def test_an_image_names_what_its_steps_import_and_nothing_else(role: str) -> None:
    _, packages = imports.imported(role)
    names = declared(role)
    missing = {package for package in packages if not distributions_of(package) & with_their_own(names)}
    assert not missing, f"the steps of {role} import {missing}, which its extra does not bring"
    used = {name for package in packages for name in distributions_of(package)}
    assert names - used <= STARTED_OTHERWISE, f"no step of {role} imports {names - used - STARTED_OTHERWISE}"


@pytest.mark.parametrize("role", ROLES)
def test_an_images_modules_load_with_nothing_but_its_own_packages(role: str) -> None:
    modules, _ = imports.imported(role)
    allowed = with_their_own(declared(role))
    kept = allowed | {"deepvideo-r1-pipelines"}
    refused = sorted(package for package, names in owners().items() if not names & kept)
    script = """
import importlib, json, sys
refused, modules = json.load(sys.stdin)
from importlib.machinery import PathFinder
class OfTheImage(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in refused else super().find_spec(name, path, target)
refused = set(refused)
sys.meta_path[:] = [OfTheImage if finder is PathFinder else finder for finder in sys.meta_path]
for module in modules:
    importlib.import_module(module)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps([refused, sorted(modules)]),
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert ("torch" in refused) == (role == "light") and ("vllm" in refused) == (role != "generation")


def pins() -> dict[str, str]:
    """Every pinned distribution and its version."""
    lines = (ROOT / "docker" / "constraints.txt").read_text().splitlines()
    named = (line.partition("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, _, version in named}


def test_everything_that_an_image_installs_by_name_is_pinned() -> None:
    own = canonicalize_name(PROJECT["name"])
    extras = [names for extra, names in PROJECT["optional-dependencies"].items() if extra != "dev"]
    named = PROJECT["dependencies"] + [item for names in extras for item in names]
    assert {canonicalize_name(Requirement(item).name) for item in named} - {own} <= pins().keys()


def test_the_pins_are_of_one_mind_for_gpus_too_and_leave_nothing_open(tmp_path: Path) -> None:
    """What pip would install for GPUs, on any machine: PyTorch with CUDA, every version one of the pins."""
    report = tmp_path / "report.json"
    resolving = ["install", "--dry-run", "--ignore-installed", "--quiet", "--report", str(report)]
    wanted = ["-c", "docker/constraints.txt", f"torch==={pins()['torch']}", ".[gpu]"]
    done = subprocess.run([sys.executable, "-m", "pip", *resolving, *wanted], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    versions = {canonicalize_name(item["name"]): item["version"] for item in found}
    del versions[canonicalize_name(PROJECT["name"])]
    assert {"torch", "vllm", "deepspeed", "triton", "nvidia-nccl-cu13"} <= versions.keys()
    assert versions == {name: pins().get(name) for name in versions}


@pytest.mark.parametrize(
    ("variant", "index", "offered", "asked"),
    [
        ("cpu", "", True, ["torch=={}+cpu"]),
        ("cpu", "", False, ["torch=={}+cpu", "--extra-index-url https://download.pytorch.org/whl/cpu torch=={}+cpu"]),
        ("gpu", "", True, ["torch==={}"]),
        ("gpu", "https://mirror/cu130", True, ["--extra-index-url https://mirror/cu130 torch=={}"]),
    ],
)
def test_torch_comes_from_where_its_variant_has_it(
    tmp_path: Path, variant: str, index: str, offered: bool, asked: list[str]
) -> None:
    calls = record_python(
        tmp_path, pip=f'[ {int(offered)} = 1 ] || case "$*" in *--extra-index-url*) ;; *) exit 1 ;; esac'
    )
    done = install_torch(tmp_path, variant, TORCH_INDEX=index)
    assert done.returncode == 0, done.stderr
    pins_file = str(ROOT / "docker" / "constraints.txt")
    given = [line.partition(pins_file)[2].strip() for line in calls.read_text().splitlines() if pins_file in line]
    assert given == [item.format(pins()["torch"]) for item in asked]


def test_a_torch_without_cuda_is_no_gpu_variant(tmp_path: Path) -> None:
    record_python(tmp_path, cuda="exit 1")
    assert install_torch(tmp_path, "cpu").returncode == 0
    done = install_torch(tmp_path, "gpu")
    assert done.returncode == 1 and "has no CUDA" in done.stderr and "TORCH_INDEX" in done.stderr


def record_python(folder: Path, pip: str = ":", cuda: str = ":") -> Path:
    """A `python` that notes what it is asked and does `pip` for pip and `cuda` for the look at torch; where it notes."""
    calls = folder / "calls"
    python = folder / "python"
    python.write_text(f'#!/bin/sh\necho "$*" >>{calls}\nif [ "$1" = -m ]; then {pip}\nelse {cuda}\nfi\n')
    python.chmod(0o755)
    return calls


def install_torch(folder: Path, variant: str, **variables: str) -> subprocess.CompletedProcess[str]:
    known = {**os.environ, "TORCH_INDEX": "", "PATH": f"{folder}:{os.environ['PATH']}", **variables}
    script = str(ROOT / "docker" / "torch.sh")
    return subprocess.run([script, variant], env=known, capture_output=True, text=True)


def test_the_image_of_mlflow_installs_its_extra() -> None:
    (installed,) = re.findall(r"FROM building AS building-mlflow\n.*install\.sh (.+)\n", DOCKERFILE)
    assert set(installed.split()) == set(PROJECT["optional-dependencies"]["mlflow"])


def test_images_are_not_root_carry_labels_and_start_from_a_pinned_base() -> None:
    base = re.search(r"^ARG BASE=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert base and ":" in base[1].rpartition("/")[2] and not base[1].endswith(":latest")
    stages = re.split(r"^FROM .* AS ", DOCKERFILE, flags=re.MULTILINE)[1:]
    final = {stage.split("\n")[0]: stage for stage in stages if stage.split("\n")[0] in (*ROLES, "mlflow")}
    assert set(final) == {*ROLES, "mlflow"}
    for stage in final.values():
        assert "USER 10001:10001" in stage
        assert all(f"org.opencontainers.image.{label}=" in stage for label in ("version", "revision", "licenses"))
        assert "secret" not in stage and "pip install" not in stage


def test_the_pods_user_is_the_images() -> None:
    from pipelines.pods.settings import ClusterSettings

    assert f"USER {ClusterSettings().run_as_user}:" in DOCKERFILE and PROJECT["version"] == VERSION


def test_the_hosts_pip_settings_reach_the_build_without_certificates(tmp_path: Path) -> None:
    pip_settings = load(ROOT / "docker" / "pip_settings.py")
    listed = (
        "global.cert='/etc/ca.pem'\nglobal.timeout='5'\ninstall.find-links='/nowhere'\n"
        f":env:.find-links='{tmp_path}\\nfile://{tmp_path}'\n:env:.no-cache-dir='1'\n"
    )
    found = pip_settings.settings(listed)
    assert found == {"timeout": "5", "find-links": f"{tmp_path}\nfile://{tmp_path}"}
    (tmp_path / "index" / "simple").mkdir(parents=True)
    index = {"extra-index-url": f"file://{tmp_path}/index/simple https://elsewhere/simple"}
    assert pip_settings.folders(found | index) == [str(tmp_path), str(tmp_path / "index")]
    assert pip_settings.pip_conf(found) == f"[global]\nfind-links = {tmp_path} file://{tmp_path}\ntimeout = 5\n"


def test_what_is_installed_lies_in_layers_that_a_change_of_code_leaves_alone() -> None:
    stages = dict(
        (stage.split("\n")[0], stage) for stage in re.split(r"^FROM .* AS ", DOCKERFILE, flags=re.MULTILINE)[1:]
    )
    code = re.compile(r"^COPY (components|pipelines|README\.md|LICENSE)\b", re.MULTILINE)
    installing = {name for name, stage in stages.items() if name.startswith("building") and "install.sh" in stage}
    assert {name for name in installing if code.search(stages[name])} == {"building-code"}
    assert "--code" in stages["building-code"] and not code.search(stages["building-steps"])
    for role in ROLES:  # the code comes last: a push sends that layer alone
        copied = re.findall(r"^COPY --from=(\S+)", stages[role], re.MULTILINE)
        assert copied == [f"building-{role}", "building-code"]
