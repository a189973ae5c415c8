"""What the MLflow client tries again, and what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE

from components.shared.tracking.client import quoted, sqlite_path, with_retries


def test_an_error_that_may_pass_is_tried_again() -> None:
    failures = [MlflowException("locked", TEMPORARILY_UNAVAILABLE)]

    def action() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert with_retries(action) == "done"


def test_an_error_that_stays_is_raised_at_once() -> None:
    tries = []

    def action() -> None:
        tries.append(1)
        raise MlflowException("bad name", INVALID_PARAMETER_VALUE)

    with pytest.raises(MlflowException, match="bad name"):
        with_retries(action)
    assert len(tries) == 1


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("sqlite:////abs/mlflow.db", Path("/abs/mlflow.db")),
        ("sqlite:////abs/mlflow.db?timeout=5", Path("/abs/mlflow.db")),
        ("sqlite:///mlflow.db", Path("mlflow.db").absolute()),
        ("sqlite:///:memory:", None),
        ("http://mlflow:5000", None),
    ],
)
def test_a_sqlite_uri_names_its_file(uri: str, path: Path | None) -> None:
    assert sqlite_path(uri) == path


def test_a_name_with_both_quotes_is_refused() -> None:
    assert quoted("the team's") == '"the team\'s"'
    with pytest.raises(ValueError, match="choose a simpler name"):
        quoted("'\"")
