"""A quiet MLflow client: its store is created safely, and what fails for a moment is tried again."""

from __future__ import annotations

import fcntl
import functools
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tenacity import retry, retry_if_exception, stop_after_attempt, wait_exponential

if TYPE_CHECKING:
    from mlflow import MlflowClient

Result = TypeVar("Result")

_ENVIRONMENT = {
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # MLflow and alembic print to the terminal otherwise
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # its own 7 retries keep a step waiting for minutes when a server is gone
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",  # seconds
}
_PASSING = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "INTERNAL_ERROR"}
_MEMORY = Path("/dev/shm")


@functools.cache
def open_client(uri: str) -> MlflowClient:
    """The client of a tracking store and its registry: `sqlite:///<path>` (created on first use) or a server's URL.

    Importing MLflow takes 2 to 3 seconds: call it late. The client is kept; the fluent API is never used, so neither
    the environment nor an active run changes.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    if path := sqlite_path(uri):
        _create_sqlite(path)
    return MlflowClient(uri)


def sqlite_path(uri: str) -> Path | None:
    """The file of a `sqlite:///` URI, None for any other store."""
    found = re.fullmatch(r"sqlite:///([^?:][^?]*)(\?.*)?", uri)
    return Path(found.group(1)).absolute() if found else None


def with_retries(action: Callable[[], Result]) -> Result:
    """The action's result; on an error that may pass, up to three tries 1 and 2 seconds apart, then the error."""
    again = retry(
        retry=retry_if_exception(may_pass),
        stop=stop_after_attempt(3),
        wait=wait_exponential(multiplier=1, max=4),
        reraise=True,
    )
    return again(action)()


def may_pass(error: BaseException) -> bool:
    """Whether an error may be gone in a moment: the server is away or busy, the database is locked."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return error.error_code in _PASSING
    return isinstance(error, ConnectionError | TimeoutError)


def brief(error: BaseException) -> str:
    """An error in one line."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"


def _create_sqlite(path: Path) -> None:
    """Create the database if it is not there: it is either missing or complete, whoever else tries or is killed.

    MLflow's migrations commit dozens of times, and on a disk every commit waits. They run on a copy in memory, which
    is then moved into place.
    """
    if path.exists():
        return
    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f"{path.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return
        with tempfile.TemporaryDirectory(dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None) as scratch:
            MlflowClient(f"sqlite:///{scratch}/mlflow.db").search_experiments(max_results=1)
            partial = path.with_name(f".{path.name}.partial")
            shutil.copyfile(f"{scratch}/mlflow.db", partial)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)


def quoted(value: str) -> str:
    """A value as a string in one of MLflow's filters. Raises ValueError for a value that cannot be written there."""
    if "'" not in value:
        return f"'{value}'"
    if '"' not in value:
        return f'"{value}"'
    raise ValueError(f"{value!r} holds both kinds of quotes: MLflow cannot search for it; choose a simpler name")
