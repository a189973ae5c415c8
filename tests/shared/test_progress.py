from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import subprocess
import sys

import pytest

from components.shared.progress import VARIABLE, progress, read_events, step_finished, step_started


def test_a_loops_start_last_advance_and_end_are_always_written_and_the_rest_is_throttled(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "events.jsonl"))
    step_started("rollout")
    with progress("Sampling responses", total=10_000, unit="prompts") as advance:
        for _ in range(5_000):
            advance(2)
    step_finished("rollout", 1.5, note="96 prompts")
    events, _ = read_events(tmp_path / "events.jsonl")
    kinds = [event["event"] for event in events]
    assert kinds[:2] == ["step_started", "start"] and kinds[-3:] == ["advance", "end", "step_finished"]
    assert len(events) < 60  # 5 a second, and this loop takes well under 10 s
    loop = {"label": "Sampling responses", "total": 10_000, "unit": "prompts", "pid": os.getpid()}
    assert loop.items() <= events[-2].items() and events[-2]["done"] == events[-3]["done"] == 10_000
    assert events[-1]["seconds"] == 1.5 and events[-1]["note"] == "96 prompts" and events[-1]["step"] == "rollout"


def test_a_loop_that_breaks_off_ends_with_what_was_done(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "events.jsonl"))
    with pytest.raises(ValueError, match="bad frame"), progress("Decoding", total=3, unit="videos") as advance:
        advance()
        raise ValueError("bad frame")
    last = read_events(tmp_path / "events.jsonl")[0][-1]
    assert (last["event"], last["done"], last["total"]) == ("end", 1, 3)


def test_reading_goes_on_where_it_stopped_and_leaves_a_half_written_line(tmp_path):
    path = tmp_path / "events.jsonl"
    assert read_events(path) == ([], 0)
    path.write_bytes(b'{"event": "start"}\n{"event": "adv')
    events, offset = read_events(path)
    assert events == [{"event": "start"}]
    with open(path, "ab") as file:
        file.write(b'ance"}\n')
    assert read_events(path, offset)[0] == [{"event": "advance"}]


def _write_many(name: str) -> None:
    for _ in range(300):
        step_started(name * 50)


def test_lines_of_several_processes_do_not_mix(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "events.jsonl"))
    workers = [multiprocessing.get_context("fork").Process(target=_write_many, args=(name,)) for name in "abcd"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert len(lines) == 1200 and all(json.loads(line)["step"] for line in lines)


def test_without_a_terminal_and_without_a_file_nothing_is_shown():
    program = (
        "from components.shared.progress import progress\n"
        "with progress('Decoding', total=2, unit='videos') as advance: advance(); advance(1)"
    )
    env = {name: value for name, value in os.environ.items() if name != VARIABLE}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, check=True)
    assert done.stdout == done.stderr == b""


def test_on_a_terminal_a_bar_names_the_loop_and_its_count():
    program = (
        "from components.shared.progress import progress\n"
        "with progress('Decoding', total=2, unit='videos') as advance: advance(); advance(1)"
    )
    env = {name: value for name, value in os.environ.items() if name != VARIABLE} | {"TERM": "xterm", "COLUMNS": "120"}
    leader, follower = os.openpty()
    subprocess.run([sys.executable, "-c", program], env=env, stderr=follower, check=True)
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # EIO, at the end; before it a terminal gives what has arrived
        while block := os.read(leader, 65536):
            shown += block
    os.close(leader)
    assert b"Decoding" in shown and b"2/2" in shown and b"videos" in shown
