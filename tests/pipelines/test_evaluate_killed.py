"""`deepvideo evaluate`, the real process, killed five times at random moments."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.benchmark_copies import write_copy

ROOT = Path(__file__).parents[2]
KILLS = 5


def start(copy: Path, output: Path) -> subprocess.Popen[str]:
    """Twenty chunks of two questions each."""
    command = [sys.executable, "-m", "pipelines.cli", "evaluate", "--policy", "tiny", "--benchmark", f"mvbench={copy}"]
    command += ["--output", str(output), "--max-frames", "4", "--max-new-tokens", "24", "--max-pixels", "12544"]
    command += ["--set", "evaluation.chunk_questions=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE)


def asked(output: Path) -> list[list[str]]:
    """The items of each chunk that was asked, in time's order."""
    path = output / "asked.jsonl"
    written = path.read_text() if path.exists() else ""
    return [json.loads(line)["items"] for line in written[: written.rfind("\n") + 1].splitlines()]


def kill_after(process: subprocess.Popen[str], output: Path, chunks: int, seconds: float) -> None:
    """SIGKILL, `seconds` after so many chunks more were asked; for 0, within the start. Its workers go with it."""
    goal = len(asked(output)) + chunks
    while len(asked(output)) < goal:
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.005)
    time.sleep(seconds)
    assert process.poll() is None, "it ended before it was killed"
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert psutil.wait_procs(below, timeout=60)[1] == []


def test_a_killed_evaluation_goes_on_to_the_same_table_and_asks_nothing_twice_but_its_open_chunk(
    tmp_path: Path,
) -> None:
    copy = tmp_path / "copy"
    count = write_copy("mvbench", copy)
    undisturbed = start(copy, tmp_path / "whole")
    expected, _ = undisturbed.communicate()
    assert undisturbed.returncode == 0

    seed = int(time.time())
    print(f"kills drawn by seed {seed}")
    rng, output = random.Random(seed), tmp_path / "killed"
    open_chunks: list[list[str]] = []
    for number in range(KILLS):
        process = start(copy, output)
        # the last three kills hit chunks for certain, the others may hit the start
        kill_after(process, output, rng.randint(1 if number > 1 else 0, 3), rng.uniform(0, 0.15))
        open_chunks += asked(output)[-1:]
    finishing = start(copy, output)
    told, _ = finishing.communicate()
    assert finishing.returncode == 0

    for name in ("mvbench.strict.json", "mvbench.strict.responses.jsonl"):
        assert (output / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    table = told[told.index("MVBench  protocol") :]
    assert table == expected[expected.index("MVBench  protocol") :] and "Table 2" in table
    times = [item for chunk in asked(output) for item in chunk]
    assert len(set(times)) == count and len(asked(tmp_path / "whole")) == count // 2
    for item in set(times):
        assert times.count(item) <= 1 + sum(item in chunk for chunk in open_chunks)
