"""What tests of several rooms share: the machine's cores among pytest's workers, an S3 server a worker, a bucket a test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import hypothesis
import pytest

from pipelines.containers.radosgw import Bucket, Gateway, radosgw

_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _WORKERS > 1:  # before PyTorch is imported, and for the processes that tests start
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // _WORKERS)))

hypothesis.settings.register_profile("repeatable", derandomize=True)  # the same examples in every run
hypothesis.settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first, so that the other worker does all others meanwhile."""
    items.sort(key=lambda item: item.path.name != "test_end_to_end.py")


@pytest.fixture(scope="session")
def gateway() -> Iterator[Gateway]:
    """A real S3 server."""
    with radosgw() as running:
        yield running


@pytest.fixture
def bucket(gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket; the AWS variables point to its server, and downloads go to a cache of the test's own."""
    environment = {**gateway.environment, "DEEPVIDEO_CACHE": str(tmp_path / "cache")}
    environment |= {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    made = Bucket(f"test-{uuid.uuid4().hex[:12]}", gateway, environment)
    boto3.session.Session().client("s3").create_bucket(Bucket=made.name)
    return made
