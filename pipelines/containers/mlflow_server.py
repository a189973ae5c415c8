"""A real MLflow server as a process, that can be killed and started again on the same data."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from components.shared.tracking.client import open_client
from pipelines.containers.daemons import end_with_parent, free_port

_STARTS_WITHIN = 600.0  # seconds, on a busy machine


class MlflowServer:
    """A server on a port; what it was given lies in `backend` and `artifacts` and outlives it.

    Without these it has SQLite and a folder, below `folder`, in which its log is.
    """

    def __init__(
        self,
        folder: Path,
        backend: str = "",
        artifacts: str = "",
        port: int = 0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.environment = dict(environment or {})  # beside this process's own: the AWS variables of `artifacts`
        self.folder, self.port = folder, port or free_port()
        self.backend = backend or f"sqlite:///{folder}/server.db"
        self.artifacts = artifacts or str(folder / "artifacts")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        if self.backend.startswith("sqlite:"):
            open_client(self.backend)  # made in memory: its many commits wait for a disk otherwise
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(self.port)]
        own = {
            "MLFLOW_BACKEND_STORE_URI": self.backend,  # a password on the command line is for all to see
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # three processes less
        }
        with open(self.folder / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                [*command, "--artifacts-destination", self.artifacts],
                stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
                preexec_fn=end_with_parent,
                env={**os.environ, **self.environment, **own},
            )  # fmt: skip
        deadline = time.monotonic() + _STARTS_WITHIN
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"mlflow server does not start: see {self.folder}/server.log")
            time.sleep(0.2)

    def kill(self) -> None:
        """SIGKILL to the server and its workers."""
        self._signal(signal.SIGKILL)
        if self._process:
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Let it accept connections and not answer, until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _answers(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            opener.open(f"{self.url}/health", timeout=5).close()
        except (urllib.error.URLError, OSError):
            return False
        return True
