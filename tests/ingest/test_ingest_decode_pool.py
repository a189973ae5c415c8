"""Decode workers: killed when they hang, replaced when they crash, gone when their parent is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from components.ingest.decode_pool import DecodePool, DecodeWorker, Rejected
from tests.waiting import SOON, decode_workers


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A named pipe without a writer: opening it blocks for ever, as some videos do to a decoder."""
    os.mkfifo(tmp_path / "pipe.mp4")
    return tmp_path / "pipe.mp4"


@pytest.fixture
def worker(tmp_path: Path):
    worker = DecodeWorker(tmp_path / "log")
    yield worker
    worker.stop()
    worker.end()


def test_a_worker_that_hangs_is_killed_and_the_next_file_gets_a_new_one(worker, pipe, media):
    worker.ask(60, operation="digest", path=str(media / "small.mp4"))
    (first,) = decode_workers()
    with pytest.raises(Rejected) as rejected:
        worker.ask(0.3, operation="digest", path=str(pipe))
    assert rejected.value.reason == "decode_timeout" and not first.is_running()
    assert len(worker.ask(60, operation="digest", path=str(media / "small.mp4"))["digest"]) == 64


def test_a_worker_that_crashes_is_replaced(worker, pipe, media):
    worker.ask(60, operation="digest", path=str(media / "small.mp4"))
    (process,) = decode_workers()
    threading.Timer(0.2, process.send_signal, [signal.SIGSEGV]).start()
    with pytest.raises(Rejected, match="worker_crashed: the decoder crashed over the file .killed by SIGSEGV"):
        worker.ask(60, operation="digest", path=str(pipe))
    assert worker.ask(60, operation="digest", path=str(media / "small.mp4"))["digest"]


def test_ffmpegs_noise_stays_off_the_terminal(worker, media, tmp_path, capfd):
    with pytest.raises(Rejected, match="truncated"):
        worker.ask(
            60, operation="video", path=str(media / "truncated.mp4"), out=str(tmp_path / "frames.npy"),
            decoder="decord", frame_size=56, sampling={"num_frames": 8},
        )  # fmt: skip
    assert capfd.readouterr() == ("", "")


def test_an_interrupt_ends_workers_that_hang(pipe, tmp_path):
    pool = DecodePool(2, tmp_path / "log")

    def work(name: str) -> str:
        if name == "fails":
            time.sleep(1.0)
            raise KeyboardInterrupt
        with pool.worker() as worker:
            return worker.ask(300, operation="digest", path=str(pipe))["digest"]

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(pool.map(work, ["fails", "hangs", "hangs too", "waits", "waits too"]))
    assert time.monotonic() - started < 60 and decode_workers() == []


def test_results_come_in_the_order_of_the_items(media, tmp_path):
    pool = DecodePool(2, tmp_path / "log")

    def work(name: str) -> str:
        with pool.worker() as worker:
            return name + worker.ask(60, operation="digest", path=str(media / name))["digest"]

    names = ["long.avi", "small.mp4", "fast.mp4", "wide.mkv"] * 5
    assert [result[:-64] for result in pool.map(work, names)] == names


def test_workers_die_with_a_parent_that_is_killed(pipe, tmp_path):
    program = (
        "import sys; from pathlib import Path; from components.ingest.decode_pool import DecodeWorker\n"
        "DecodeWorker(Path(sys.argv[1])).ask(300, operation='digest', path=sys.argv[2])"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "log"), str(pipe)], cwd=Path(__file__).parents[2]
    )
    deadline = time.monotonic() + SOON
    while not (found := psutil.Process(parent.pid).children()) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)  # past its start, in the file that hangs
    parent.kill()
    parent.wait()
    assert found and psutil.wait_procs(found, timeout=SOON)[1] == []
