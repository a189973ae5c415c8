"""torchcodec as ingest's decoder, tried in an environment of its own: its builds ask for another vLLM or for CUDA."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.ingest import readers
from components.ingest.errors import IngestError
from components.ingest.preflight import check_local_inputs
from components.ingest.step import ingest

ROOT = Path(__file__).parents[2]
VERSION = "0.12.0"  # the last that asks for no CUDA; torch 2.13 is beside it


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of a process that finds torchcodec besides what is installed here."""
    folder = tmp_path_factory.mktemp("torchcodec")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    subprocess.run([*pip, f"torchcodec=={VERSION}"], check=True)
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}


def test_torchcodec_passes_the_tests_of_a_decoder(environment: dict[str, str]) -> None:
    files = ["tests/ingest/test_ingest_decoding.py", "tests/ingest/test_ingest_step.py"]
    tests = [*files, "-k", "torchcodec", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *tests, "-rA"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    passed = [line for line in done.stdout.splitlines() if line.startswith("PASSED")]
    assert len(passed) >= 20 and all("torchcodec" in line for line in passed)
    assert any("test_each_decoder_goes_through_the_step" in line for line in passed)


def test_a_decoder_that_is_not_installed_is_refused_before_the_run(settings_for, context, ask, monkeypatch) -> None:
    monkeypatch.setitem(readers._LIBRARIES, "torchcodec", "a_library_that_nobody_has")
    settings = settings_for([ask("small.mp4")]).model_copy(update={"decoder": "torchcodec"})
    for refuse in (check_local_inputs, lambda settings: ingest(settings, context)):
        with pytest.raises(
            IngestError, match="ingest.decoder: torchcodec is not installed here; install the project's"
        ):
            refuse(settings)


def test_a_torchcodec_that_does_not_load_is_told_with_its_reason(tmp_path: Path) -> None:
    broken = tmp_path / "torchcodec"
    broken.mkdir()
    (broken / "__init__.py").write_text("")
    (broken / "decoders.py").write_text("raise RuntimeError('Could not load libtorchcodec')")
    done = subprocess.run(
        [sys.executable, "-m", "components.ingest.decode_worker", "torchcodec"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ImportError: torchcodec does not load: Could not load libtorchcodec"
