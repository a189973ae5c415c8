"""Decode workers seen from the parent: a deadline each, killed and started anew when one hangs or crashes."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import components
from components.ingest.errors import IngestError
from components.ingest.readers.contracts import Decoder

_START_SECONDS = 120.0
_END_SECONDS = 5.0
_IN_FLIGHT = 8  # files fetched, decoded or written at once: transfers overlap with decoding
Item = TypeVar("Item")
Result = TypeVar("Result")


class Rejected(Exception):
    """A file that could not be decoded, and why."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class DecodeWorker:
    """One worker process, started when it is first asked. Its stderr (FFmpeg's noise) goes to `log`."""

    def __init__(self, log: Path, decoder: Decoder = "decord") -> None:
        self._log, self._decoder = log, decoder
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def ask(self, timeout: float, **request: Any) -> dict[str, Any]:
        """The worker's answer within `timeout` seconds.

        Raises Rejected if the file is unusable, or if the worker crashes over it or takes longer; the next call then
        starts a new process. Raises IngestError if the process cannot be started.
        """
        process = self._process or self._start()
        with contextlib.suppress(BrokenPipeError):  # it is gone: seen when its answer is read
            _pipe(process.stdin).write(json.dumps(request).encode() + b"\n")
            _pipe(process.stdin).flush()
        line = _read_line(process, timeout)
        if line is None:
            self.end()
            raise Rejected("decode_timeout", f"not done within decode_timeout ({timeout:g} s)")
        if not line:
            raise Rejected("worker_crashed", f"the decoder crashed over the file ({_how(self.end(_END_SECONDS))})")
        reply = json.loads(line)
        if "reason" in reply:
            raise Rejected(reply["reason"], reply["detail"])
        return reply

    def stop(self) -> None:
        """Kill the process, for good; whoever waits for its answer gets Rejected."""
        with self._lock:
            self._stopped = True
            if self._process:
                self._process.kill()

    def end(self, grace: float = 0.0) -> int:
        """The status the process ends with; it is killed unless it ends by itself within `grace` seconds."""
        process, self._process = self._process, None
        if process is None:
            return 0
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
        with contextlib.suppress(BrokenPipeError):
            _pipe(process.stdin).close()
        _pipe(process.stdout).close()
        return process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        root = str(Path(components.__file__).parents[1])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        with self._lock, open(self._log, "ab") as log:
            if self._stopped:
                raise IngestError("decoding was stopped")
            self._process = process = subprocess.Popen(
                [sys.executable, "-m", "components.ingest.decode_worker", self._decoder],
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        if not _read_line(process, _START_SECONDS):
            how = _how(self.end(_END_SECONDS))
            tail = self._log.read_text(errors="replace")[-2000:]
            raise IngestError(
                f"a decode worker did not start ({how}); is {self._decoder} installed? Its output:\n{tail}"
            )
        return process


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    """Popen's stream, which is there: we asked for a pipe."""
    assert stream is not None
    return stream


def _how(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"


def _read_line(process: subprocess.Popen[bytes], timeout: float) -> bytes | None:
    """The next line of the process's output: None after `timeout` seconds, empty if the process is gone."""
    output = _pipe(process.stdout).fileno()
    deadline = time.monotonic() + timeout
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return None
            block = os.read(output, 1 << 16)
            if not block:
                return b""
            line += block
    return line


class DecodePool:
    """Up to `workers` processes, shared by the files in flight."""

    def __init__(self, workers: int, log: Path, decoder: Decoder = "decord") -> None:
        self._all = [DecodeWorker(log, decoder) for _ in range(workers)]
        self._free: queue.SimpleQueue[DecodeWorker] = queue.SimpleQueue()
        for worker in self._all:
            self._free.put(worker)

    @contextmanager
    def worker(self) -> Iterator[DecodeWorker]:
        """A worker for the time of the block, as soon as one is free."""
        worker = self._free.get()
        try:
            yield worker
        finally:
            self._free.put(worker)

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Generator[Result]:
        """`work` of each item in their order, several at once in threads; the processes are gone when it ends."""
        executor = ThreadPoolExecutor(max_workers=max(_IN_FLIGHT, len(self._all)))
        try:
            yield from executor.map(work, items)
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
            for worker in self._all:
                worker.stop()
            executor.shutdown(wait=True)
            for worker in self._all:
                worker.end()
