"""The built wheel works alone in an empty folder: nothing it needs was left in the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    target = folder / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)],
        check=True,
        capture_output=True,
    )
    return target


def run(installed: Path, empty: Path, *arguments: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", "from pipelines.cli import main; main()", *arguments]
    done = subprocess.run(command, cwd=empty, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_preset_compiles_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    for preset in ("kill", "laptop", "paper-3b", "paper-7b"):
        run(installed, tmp_path, "compile", "--preset", preset, "--output", f"{preset}.yaml")
        assert (tmp_path / f"{preset}.yaml").stat().st_size > 10_000


def test_the_wheel_holds_the_tiny_model_and_the_reports_page(installed: Path) -> None:
    assert (installed / "components/ingest/tiny_model/weights/model.safetensors").stat().st_size > 1_000_000
    assert (installed / "components/report/page.html.j2").is_file()
    assert not (installed / "tests").exists()
