"""Files from a folder and from an S3 endpoint, which speaks S3's protocol to the real client."""

from __future__ import annotations

import hashlib
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlparse
from xml.sax.saxutils import escape

import pytest

from components.ingest.errors import IngestError
from components.ingest.settings import IngestSettings
from components.ingest.sources import open_source
from components.ingest.step import ingest
from components.shared.dataset import DatasetReader


class Endpoint(BaseHTTPRequestHandler):
    """ListObjectsV2 (two keys a page), HEAD and GET of the objects below `root`/<bucket>."""

    root: Path
    requests: list[str]

    def do_GET(self) -> None:
        url = urlparse(self.path)
        self.requests.append(f"{self.command} {unquote(url.path)}")
        path = self.root / unquote(url.path).strip("/")
        if path.is_dir():
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            return self._send(200, self._listing(path, query.get("prefix", ""), query.get("continuation-token", "")))
        if not path.is_file():
            return self._send(404, b"<Error><Code>NoSuchBucket</Code><Message>none</Message></Error>")
        return self._send(200, path.read_bytes())

    do_HEAD = do_GET

    def _listing(self, bucket: Path, prefix: str, after: str) -> bytes:
        keys = sorted(path.relative_to(bucket).as_posix() for path in bucket.rglob("*") if path.is_file())
        keys = [key for key in keys if key.startswith(prefix) and key > after]
        items = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{(bucket / key).stat().st_size}</Size>"
            f"<ETag>{hashlib.md5((bucket / key).read_bytes()).hexdigest()}</ETag></Contents>"
            for key in keys[:2]
        )
        more = f"<NextContinuationToken>{escape(keys[1])}</NextContinuationToken>" if len(keys) > 2 else ""
        truncated = str(len(keys) > 2).lower()
        return f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{more}{items}</ListBucketResult>".encode()

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.md5(body).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The folder of the bucket `bucket`, and the requests made."""
    folder = tmp_path / "s3" / "bucket"
    folder.mkdir(parents=True)
    requests: list[str] = []
    handler = type("Handler", (Endpoint,), {"root": folder.parent, "requests": requests})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1", "no_proxy": "127.0.0.1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    yield folder, requests
    server.shutdown()
    server.server_close()


def test_data_and_model_from_s3_give_what_folders_give(
    bucket, settings_for, context, ask, tmp_path, policy_folder, media
):
    folder, requests = bucket
    local = settings_for([ask("small.mp4"), ask("fast.mp4"), ask("text.mp4")], max_quarantine_fraction=0.5)
    (folder / "data" / "videos").mkdir(parents=True)
    for name in ("small.mp4", "fast.mp4", "text.mp4"):
        shutil.copy(media / name, folder / "data" / "videos" / name)
    shutil.copy(local.annotations, folder / "data" / "annotations.jsonl")
    shutil.copytree(policy_folder, folder / "models" / "tiny")
    remote = IngestSettings.model_validate(
        local.model_dump() | {
            "annotations": "s3://bucket/data/annotations.jsonl", "videos": "s3://bucket/data/videos",
            "model": "s3://bucket/models/tiny",
        }
    )  # fmt: skip
    outputs = ingest(remote, context)
    other = ingest(local, context.model_copy(update={"store": str(tmp_path / "other")}))
    for name in ("dataset", "policy", "state", "buffer"):
        assert outputs.artifacts[name].digest == other.artifacts[name].digest
    dataset = DatasetReader(context.open_store().get(outputs.artifacts["dataset"]))
    assert [item.reason for item in dataset.quarantine()] == ["not_a_video"]
    requests.clear()
    assert ingest(remote, context) == outputs
    assert not [request for request in requests if request.endswith(".mp4")]  # found again without a download


def test_a_bucket_that_cannot_be_listed_is_one_clear_error(bucket):
    with pytest.raises(IngestError, match="s3://absent/x/ cannot be listed .*check its name, the AWS credentials"):
        open_source("s3://absent/x").names()


@pytest.mark.parametrize("root", ["/data/videos", "s3://bucket/videos"])
def test_names_stay_below_the_root(root):
    source = open_source(root)
    assert source.relative(f"{root}/sub/a.mp4") == "sub/a.mp4"
    assert source.relative("sub/a.mp4") == "sub/a.mp4"
    for outside in ("/etc/passwd", "../a.mp4", "s3://other/a.mp4" if root.startswith("s3") else "/data/videosX/a.mp4"):
        with pytest.raises(ValueError, match="lies outside the videos'"):
            source.relative(outside)


def test_another_scheme_is_refused():
    with pytest.raises(IngestError, match="scheme 'ftp' is not supported"):
        open_source("ftp://host/videos")
