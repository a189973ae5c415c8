"""The services that a run in containers needs: S3 and MLflow on PostgreSQL, started on this machine or given by name."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3

from components.shared.files import write_atomic
from pipelines.containers.daemons import free_port
from pipelines.containers.mlflow_server import MlflowServer
from pipelines.containers.names import MLFLOW, STORE, TRACKING
from pipelines.containers.postgres import Postgres
from pipelines.containers.radosgw import Gateway

_BUCKET = "deepvideo"


@dataclass(frozen=True)
class Services:
    """The variables that name both services, and the servers that this process started for them."""

    variables: dict[str, str]
    gateway: Gateway | None = None
    mlflow: MlflowServer | None = None


@contextlib.contextmanager
def services(folder: Path) -> Iterator[Services]:
    """Both services, running for the block; they keep their data, keys and ports in `folder`.

    Where another process runs those of `folder` already, the variables are its. Raises RuntimeError, naming the package or the
    log, if one does not start.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    told = folder / "variables.json"
    with open(folder / ".lock", "w") as lock, contextlib.ExitStack() as running:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told.is_file():
                raise RuntimeError(f"{folder}: another process is starting these services; try again soon") from None
            yield Services(json.loads(told.read_text()))
            return
        told.unlink(missing_ok=True)
        started = _start(folder, running)
        told.touch(mode=0o600)
        told.write_text(json.dumps(started.variables))
        try:
            yield started
        finally:
            told.unlink(missing_ok=True)


def _start(folder: Path, running: contextlib.ExitStack) -> Services:
    known = _secrets(folder / "secrets.json")
    variables: dict[str, str] = {}
    gateway, server = None, None
    store = os.environ.get(STORE, "")
    if not store:
        (folder / "s3").mkdir(exist_ok=True)
        keys = {"access_key": known["access_key"], "secret_key": known["secret_key"]}
        gateway = Gateway(folder / "s3", durable=True, **keys)
        running.callback(gateway.stop)
        gateway.start()
        variables |= gateway.environment
        _make_bucket(gateway)
        store = f"s3://{_BUCKET}/store"
    for name in ("NO_PROXY", "no_proxy"):
        direct = [*os.environ.get(name, "").split(","), "127.0.0.1"]
        variables[name] = ",".join(dict.fromkeys(filter(None, direct)))
    variables[STORE] = store
    variables[TRACKING] = os.environ.get(TRACKING, "")
    if not variables[TRACKING]:
        database = Postgres(folder / "postgres", known["password"])
        running.callback(database.stop)
        database.start()
        (folder / "mlflow").mkdir(exist_ok=True)
        artifacts = f"{store.rpartition('/')[0] if store.count('/') > 2 else store}/mlflow"
        server = MlflowServer(folder / "mlflow", database.uri, artifacts, int(known["mlflow_port"]), variables)
        running.callback(server.kill)
        server.start()
        variables[TRACKING] = server.url
    return Services({**variables, MLFLOW: variables[TRACKING]}, gateway, server)


def _secrets(path: Path) -> dict[str, str]:
    """Keys and passwords of these services, made once; for this user alone to read."""
    if not path.is_file():
        made = {name: secrets.token_urlsafe(24) for name in ("access_key", "secret_key", "password")}
        before = os.umask(0o077)
        try:
            write_atomic(path, json.dumps({**made, "mlflow_port": str(free_port())}))
        finally:
            os.umask(before)
    return json.loads(path.read_text())


def _make_bucket(gateway: Gateway) -> None:
    session = boto3.session.Session(gateway.access_key, gateway.secret_key, region_name="us-east-1")
    client = session.client("s3", endpoint_url=gateway.url)
    with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
        client.create_bucket(Bucket=_BUCKET)
    client.put_bucket_versioning(Bucket=_BUCKET, VersioningConfiguration={"Status": "Enabled"})
