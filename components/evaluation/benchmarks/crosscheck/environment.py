"""lmms-eval's environment: it sees this project's packages, holds lmms-eval beside them, and changes none of them."""

from __future__ import annotations

import importlib.machinery
import json
import os
import shutil
import site
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.evaluation.benchmarks.contracts import BenchmarkError
from components.shared.files import sha256_bytes
from components.shared.store.opening import user_cache

_REQUIREMENTS = Path(__file__).with_name("requirements.txt")
_SCORES = Path(__file__).with_name("lmms_eval_scores.py")
VERSION = next(
    line.partition("==")[2] for line in _REQUIREMENTS.read_text().splitlines() if line.startswith("lmms-eval==")
)
_OURS = ("cv2", "decord", "loguru", "pandas", "pip", "torch", "transformers")  # what its tasks import of this project's
_READY = "made-by-deepvideo-crosscheck"  # a file: written last, with a digest of what the environment is made of


def default_environment() -> Path:
    """A folder below the user's cache, of this Python and these versions."""
    return user_cache() / f"lmms-eval-{VERSION}-{_made_of()[:12]}"


def prepare_environment(folder: Path) -> Path:
    """The environment's Python; made where there is none. Raises BenchmarkError if it cannot be made."""
    python = folder / "bin" / "python"
    ready = folder / _READY
    if ready.is_file() and ready.read_text() == _made_of():
        return python
    if folder.exists() and not ready.is_file() and any(folder.iterdir()):
        raise BenchmarkError(f"--environment {folder}: holds something else; name a folder that is empty or not there")
    # not importlib.util.find_spec: setuptools' finder takes a question for pip as a sign that pip runs, and vLLM fails after it
    if lacking := [name for name in _OURS if importlib.machinery.PathFinder.find_spec(name) is None]:
        raise BenchmarkError(
            f"lmms-eval needs {', '.join(lacking)}, which this installation lacks: install the project with its extra "
            "`cpu` or `gpu`"
        )
    making = folder.with_name(f"{folder.name}.{os.getpid()}")
    try:
        _make(making)
        (making / _READY).write_text(_made_of())
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(making, folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return python


def lmms_eval_scores(python: Path, lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What lmms_eval_scores.py prints of these responses. Raises BenchmarkError with its last words if it fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "AZURE_"))}
    done = subprocess.run(
        [str(python), "-I", str(_SCORES)],
        input="".join(json.dumps(line) + "\n" for line in lines),
        env=kept | {"HF_HOME": str(python.parents[1] / "hf"), "HF_HUB_OFFLINE": "1", "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise BenchmarkError(f"lmms-eval in {python.parents[1]} failed: {_last_line(done.stderr)}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def _made_of() -> str:
    return sha256_bytes(_REQUIREMENTS.read_bytes(), sys.version.encode(), *(path.encode() for path in _packages()))


def _packages() -> list[str]:
    return [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]


def _make(folder: Path) -> None:
    """A virtual environment that finds its own packages first and this project's after them, through a path file."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    venv.create(folder, symlinks=True)
    (own,) = folder.glob("lib/python*/site-packages")
    (own / "of_the_project.pth").write_text("".join(f"{path}\n" for path in _packages()))
    install = [str(folder / "bin" / "python"), "-I", "-m", "pip", "install", "--quiet", "--no-deps"]
    done = subprocess.run([*install, "-r", str(_REQUIREMENTS)], capture_output=True, text=True)
    if done.returncode:
        raise BenchmarkError(
            f"pip could not install lmms-eval {VERSION}: {_last_line(done.stderr)}. It needs the network or, where there is "
            "none, PIP_FIND_LINKS naming a folder of the wheels"
        )


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "without a word"
