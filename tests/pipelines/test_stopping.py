"""A run that fails and one that is stopped by Ctrl-C: what the last lines on the terminal say, and what comes next."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from components.shared.progress import read_events
from components.shared.store import StoreSettings
from pipelines import local_run
from pipelines.containers.daemons import free_port
from pipelines.run_folder import RunFolder, RunRefused
from pipelines.settings import RunSettings
from tests.videos import write_video

LIMIT = 300  # seconds


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for index, split in enumerate(("train", "L1")):
        write_video(folder / f"{index}.mp4", frames=20, fps=5, seed=index)
        row = {"video": f"{index}.mp4", "question": "What is seen first?", "answer": "a block", "task": "free_form"}
        rows.append(row | {"split": split})
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def command(data: Path, *more: str) -> list[str]:
    base = [sys.executable, "-m", "pipelines.cli", "run", "--preset", "kill", "--output", str(data / "run")]
    return [*base, "--annotations", str(data / "a.jsonl"), *more]


def heed_ctrl_c() -> None:
    """A job in the background inherits that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_failed_run_ends_with_the_reason_and_the_next_command_and_may_be_mended(data: Path) -> None:
    short = ["--set", "ingest.max_prompt_length=16", "--set", "ingest.max_hint_tokens=1"]
    done = subprocess.run([*command(data, *short), "--fresh"], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert lines[0].startswith("ingest failed: 2 of 2 samples cannot be used, and ingest.max_quarantine_fraction")
    assert lines[-1].split() == ["deepvideo", *command(data, *short)[3:]]
    with pytest.raises(RunRefused, match="the run stopped before its end, in ingest"):
        RunFolder(data / "run").require_finished()

    # nothing was made that other settings could differ from: they need no --fresh
    begun = time.time()
    process = subprocess.Popen(
        command(data), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
    )
    events = RunFolder(data / "run").progress
    while not any(float(str(event["time"])) > begun for event in read_events(events)[0]):
        assert process.poll() is None and time.time() < begun + LIMIT
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=LIMIT)
    assert process.returncode == 130, told
    stopped, again = told.strip().splitlines()[-2:]
    assert stopped.startswith("Stopped, in ") and stopped.endswith("This continues where it stopped:")
    assert again.split() == ["deepvideo", *command(data)[3:]]


def test_whoever_stops_a_run_whose_store_is_gone_is_told_and_does_not_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s", "ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    for name, value in given.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setattr(local_run, "_LAST_WORD", StoreSettings(patience=1))
    folder = RunFolder(tmp_path, store="s3://gone/store")
    begun = time.monotonic()
    local_run._close(folder, RunSettings(), "r", "KILLED", Console(width=400))
    told = capsys.readouterr().out
    assert time.monotonic() - begun < StoreSettings().patience / 2
    assert told.startswith("The store does not know that the run has stopped: s3://gone/store/"), told
