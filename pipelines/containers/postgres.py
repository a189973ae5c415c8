"""A PostgreSQL server from Debian's packages, for MLflow: its data lies in a folder, from which it starts again."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from pipelines.containers.daemons import closed_to_others, end_with_parent, free_port

_USER = "mlflow"  # of the database, and the database
_STARTS_WITHIN = 600.0  # seconds, on a busy machine


class Postgres:
    """A server on a port of its own, on 127.0.0.1 alone, with one user, whose password is asked for."""

    def __init__(self, folder: Path, password: str) -> None:
        self.folder, self.data, self.password = folder, folder / "data", password
        self.binaries = _binaries()
        self._ports = folder / "ports.json"  # written last: the database in this folder is complete
        self.port = json.loads(self._ports.read_text())[0] if self._ports.is_file() else free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """For SQLAlchemy, with the password in it."""
        return f"postgresql+psycopg2://{_USER}:{self.password}@127.0.0.1:{self.port}/{_USER}"

    def start(self) -> None:
        """Start it on the database that lies in the folder, or on one that is made there now, and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if os.getuid() == 0:
            if closed := closed_to_others(self.folder):
                raise RuntimeError(
                    f"{self.folder}: PostgreSQL does not run as root, and its user may not enter {closed}; give --folder"
                    " outside of it, or `chmod o+x` it"
                )
            shutil.chown(self.folder, **_identity())
        new = not self._ports.is_file()
        if new:
            self._make()
        command = ["-D", str(self.data), "-p", str(self.port), "-h", "127.0.0.1", "-k", ""]
        with open(self.folder / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                [self.binaries / "postgres", *command],
                stdout=log, stderr=log, cwd="/", start_new_session=True,
                preexec_fn=end_with_parent, **_process_identity(),
            )  # fmt: skip
        deadline = time.monotonic() + _STARTS_WITHIN
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start: see {self.folder}/server.log")
            time.sleep(0.2)
        if new:
            self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", _USER, _USER)
            self._ports.write_text(json.dumps([self.port]))

    def stop(self) -> None:
        """End it; transactions that were committed are on disk."""
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _make(self) -> None:
        shutil.rmtree(self.data, ignore_errors=True)  # of a try that broke off
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(self.password)
            file.flush()
            if os.getuid() == 0:
                shutil.chown(file.name, **_identity())
            how = ["--username", _USER, "--pwfile", file.name, "--auth", "scram-sha-256", "--encoding", "UTF8"]
            self._run("initdb", "-D", str(self.data), *how, "--no-locale")

    def _answers(self) -> bool:
        asked = ["-h", "127.0.0.1", "-p", str(self.port), "-q"]
        return subprocess.run([self.binaries / "pg_isready", *asked]).returncode == 0

    def _run(self, command: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.binaries / command, *arguments],
            env={**os.environ, "PGPASSWORD": self.password}, cwd="/", capture_output=True, text=True,
            **_process_identity(),
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{command} in {self.folder}: {done.stderr.strip()}")


def _binaries() -> Path:
    """Where PostgreSQL's programs are: Debian keeps them off the PATH, a folder a version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    if on_path := shutil.which("postgres"):
        return Path(on_path).resolve().parent
    raise RuntimeError("MLflow's database needs Debian's package: sudo apt-get install postgresql")


def _identity() -> dict[str, Any]:
    """Who owns the data where we are root: PostgreSQL refuses to run as root, and Debian's package makes this user."""
    found = pwd.getpwnam("postgres")
    return {"user": found.pw_uid, "group": found.pw_gid}


def _process_identity() -> dict[str, Any]:
    return {**_identity(), "extra_groups": []} if os.getuid() == 0 else {}
