"""The Kubernetes API of `kubernetes_api` over HTTP, for whoever has the token."""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.services.kubeconfig import TOKEN
from tests.services.kubernetes_api import PODS, Kubernetes
from tests.services.kubernetes_trainer import Status
from tests.services.serving import serving

_PATCH = "application/merge-patch+json"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: Kubernetes

    def _handle(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            if self.headers.get("Authorization", self.headers.get("authorization")) != f"Bearer {TOKEN}":
                raise Status(401, "Unauthorized")
            if self.command == "PATCH" and self.headers["Content-Type"] != _PATCH:
                raise Status(415, f"{self.headers['Content-Type']}: expected {_PATCH}")
            if found := re.fullmatch(rf"{PODS}/([^/]+)/log", url.path):
                return self._log(found[1], query)
            answer = self.cluster.answer(self.command, url.path, query, json.loads(data) if data else None)
            self._send(201 if self.command == "POST" else 200, json.dumps(answer).encode())
        except Status as error:
            said = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": str(error)}
            self._send(error.code, json.dumps({**said, "code": error.code}).encode())

    do_GET = do_POST = do_PATCH = do_DELETE = _handle

    def _send(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _log(self, name: str, query: Mapping[str, str]) -> None:
        """The log of a pod's container, to its end if it is followed: a chunk a line, as the API server sends it."""
        pod = self.cluster.pod(name)
        since = time.time() - float(query.get("sinceSeconds", 1e9))
        first = max(0, len(pod.lines) - int(query.get("tailLines", 10**6)))
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while True:
            over = pod.complete or not _true(query, "follow")
            for line in pod.lines[first:]:
                first += 1
                stamp, _, text = line.partition(" ")
                if datetime.datetime.fromisoformat(f"{stamp[:19]}+00:00").timestamp() >= since - 1:
                    self._chunk((line if _true(query, "timestamps") else text).encode())
            if over:
                break
            time.sleep(0.05)
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def kubernetes_api(
    folder: Path, secrets: Mapping[str, dict[str, str]], maps: Mapping[str, dict[str, str]]
) -> Iterator[Kubernetes]:
    """A running server; nodes have their disks below `folder`. `secrets` and `maps` are the namespace's, by name."""
    cluster = Kubernetes(folder, secrets, maps)
    handler = type("Handler", (_Handler,), {"cluster": cluster})
    with serving(handler) as cluster.url:
        try:
            yield cluster
        finally:
            cluster.stop()


def _true(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "false").lower() not in ("false", "0")  # as Kubernetes reads it
