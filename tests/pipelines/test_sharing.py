"""A pipeline that is compiled twice is the same file, and has the same name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.manifests import version_name
from pipelines.sharing import share_equal_parts

TAINT = {"effect": "NoSchedule", "key": "nvidia.com/gpu", "operator": "Exists"}


def compiled(path: Path, keys: list[str], header: str) -> Path:
    """A pipeline with one input, whose default's keys stand in this order, in the header as KFP writes it."""
    default = [{key: TAINT[key] for key in keys}]
    spec = {
        "pipelineInfo": {"name": "p", "description": "What it does."},
        "components": {},
        "deploymentSpec": {"executors": {}},
        "root": {
            "dag": {"tasks": {}},
            "inputDefinitions": {"parameters": {"taints": {"defaultValue": default, "parameterType": "LIST"}}},
        },
    }
    path.write_text(f"# {header}: {default}\n" + yaml.safe_dump_all([spec, {"platforms": {}}], sort_keys=False))
    return path


def test_the_order_of_a_defaults_keys_makes_no_other_file(tmp_path: Path) -> None:
    paths = [
        compiled(tmp_path / str(number), keys, "Taints")
        for number, keys in enumerate((["key", "effect", "operator"], ["operator", "key", "effect"]))
    ]
    for path in paths:
        share_equal_parts(path)
    one, other = (path.read_text() for path in paths)
    assert one == other
    assert "# Description: What it does.\n# Inputs:\n#    taints: list [Default: [{'effect': 'NoSchedule'," in one


def test_a_version_is_named_by_what_is_in_it_not_by_comments(tmp_path: Path) -> None:
    keys = list(TAINT)
    one, other = (compiled(tmp_path / header, keys, header) for header in ("one", "other"))
    assert one.read_text() != other.read_text()
    assert version_name("kill", one) == version_name("kill", other)
    one.write_text(one.read_text().replace("nvidia.com/gpu", "amd.com/gpu"))
    assert version_name("kill", one) != version_name("kill", other)


@pytest.mark.parametrize("options", [(), ("--manifests",)])
def test_other_processes_compile_the_same_file(tmp_path: Path, options: tuple[str, ...]) -> None:
    written = []
    for seed in ("1", "2"):
        path = tmp_path / f"{seed}.yaml"
        command = [sys.executable, "-m", "pipelines.cli", "compile", "--preset", "paper-3b", "--rounds", "1", *options]
        subprocess.run([*command, "--output", path], env=os.environ | {"PYTHONHASHSEED": seed}, check=True)
        written.append(path.read_bytes())
    assert written[0] == written[1]
