"""A real HTTP server whose answers a test decides: it records every request that it gets."""

from __future__ import annotations

import contextlib
import http.server
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests.services.serving import serving


class Request(NamedTuple):
    """A request as it came in; `content` is its body as JSON, None if there is none."""

    method: str
    path: str
    headers: dict[str, str]
    content: Any


Answer = tuple[int, Any]  # status, and what is sent as JSON


class HttpServer:
    """Where it listens, and what it was asked."""

    def __init__(self, url: str) -> None:
        self.url, self.requests = url, list[Request]()


@contextlib.contextmanager
def http_server(answer: Callable[[Request], Answer]) -> Iterator[HttpServer]:
    """A running server in threads of its own."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def _handle(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            content = json.loads(self.rfile.read(length)) if length else None
            request = Request(self.command, self.path, dict(self.headers), content)
            found.requests.append(request)
            status, sent = answer(request)
            data = json.dumps(sent).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_HEAD = _handle

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as url:
        found = HttpServer(url)
        yield found
