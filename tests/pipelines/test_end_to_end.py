"""The whole pipeline on real engines: one undisturbed run, and one that is killed in every step and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from components.report.summary import Summary, stable
from components.shared.progress import VARIABLE, read_events

COMMAND = [sys.executable, "-m", "pipelines.cli", "run", "--preset", "kill"]
LIMIT = 600  # seconds for one run
GRACE = 60  # seconds until a killed run's last process must be gone, on a busy machine


def command(folder: Path) -> list[str]:
    return [*COMMAND, "--output", str(folder)]


def start(folder: Path) -> subprocess.Popen[bytes]:
    log = open(folder.parent / f"{folder.name}.log", "ab")  # noqa: SIM115
    return subprocess.Popen(command(folder), stdout=log, stderr=log, start_new_session=True)


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every process that belongs to the run in `folder`, whatever its group or session."""
    mark = str(folder / "logs" / "progress.jsonl")
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(VARIABLE) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    process = start(folder)
    assert process.wait(LIMIT) == 0, (folder.parent / "run.log").read_text()
    return folder


def test_the_run_ends_with_a_complete_summary_naming_every_engine(undisturbed: Path) -> None:
    summary = Summary.model_validate_json((undisturbed / "summary.json").read_text())
    assert {"vllm", "deepspeed", "decord", "kfp", "mlflow"} <= set(summary.engines)
    assert all(summary.engines.values())
    assert len(summary.rounds) == 2 and all(item.optimizer_steps > 0 for item in summary.rounds)
    assert {"L1", "L2", "L3", "promotion"} <= set(summary.evaluation)
    assert summary.base_policy_digest != summary.final_policy_digest
    assert (undisturbed / "report.html").stat().st_size > 10_000


def test_the_trained_policy_loads_by_from_pretrained(undisturbed: Path) -> None:
    from components.shared.torchvision_compat import ensure_torchvision

    ensure_torchvision()
    from transformers import Qwen2_5_VLForConditionalGeneration

    digest = json.loads((undisturbed / "summary.json").read_text())["final_policy_digest"]
    model, info = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        undisturbed / "store" / "policy" / digest, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert model.num_parameters() > 1_000_000


def test_a_finished_run_prints_its_summary_without_running(undisturbed: Path) -> None:
    before = (undisturbed / "pipeline.yaml").stat().st_mtime_ns
    done = subprocess.run(command(undisturbed), capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0 and "L1" in done.stdout
    assert (undisturbed / "pipeline.yaml").stat().st_mtime_ns == before


def test_other_settings_in_the_same_folder_are_refused(undisturbed: Path) -> None:
    done = subprocess.run(
        [*command(undisturbed), "--set", "training.beta=0.5"], capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == 2 and "training.beta" in done.stderr


# (step, its round, what to kill): the whole process group once in each step, and once a step's process alone
KILLS = [
    ("validation", "group"),
    ("ingest", "group"),
    ("evaluation before", "group"),
    ("sampling, round 1", "group"),
    ("training, round 1", "group"),
    ("sampling, round 2", "step"),
    ("training, round 2", "group"),
    ("evaluation after", "group"),
    ("evaluation of champion", "group"),
    ("promotion", "group"),
    ("report", "group"),
]


def wait_for(folder: Path, step: str, process: subprocess.Popen[bytes], begun: float) -> int:
    """Wait until `step` is at work, in the middle of a loop if it has one soon; returns its process id.

    What lies there from before the process began (Unix time) is an earlier try's.
    """
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        found, _ = read_events(folder / "logs" / "progress.jsonl")
        events = [event for event in found if float(str(event["time"])) > begun]
        started = [event for event in events if event["event"] == "step_started" and event["step"] == step]
        if started:
            pid = int(str(started[0]["pid"]))
            later = events[events.index(started[0]) + 1 :]
            advanced = any(event["event"] == "advance" for event in later)
            ended = any(event["event"] == "step_finished" and event["step"] == step for event in later)
            waited = time.time() - float(str(started[0]["time"])) > 20
            short = step in ("validation", "evaluation of champion", "promotion", "report")
            if advanced or ended or waited or short:
                return pid
        assert process.poll() is None, f"the run ended before {step}"
        time.sleep(0.02)
    raise AssertionError(f"{step} did not start")


def wait_until_gone(folder: Path) -> None:
    deadline = time.monotonic() + GRACE
    while alive := processes_of(folder):
        assert time.monotonic() < deadline, f"left running: {alive}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("killed") / "run"
    for step, what in KILLS:
        begun = time.time()
        process = start(folder)
        pid = wait_for(folder, step, process, begun)
        if what == "group":
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        else:
            os.kill(pid, signal.SIGKILL)
            assert process.wait(LIMIT) != 0
        wait_until_gone(folder)
    process = start(folder)
    assert process.wait(LIMIT) == 0, (folder.parent / "run.log").read_text()
    yield folder


def test_a_run_killed_in_every_step_ends_like_an_undisturbed_one(undisturbed: Path, killed: Path) -> None:
    expected, got = (stable(json.loads((folder / "summary.json").read_text())) for folder in (undisturbed, killed))
    assert got == expected
