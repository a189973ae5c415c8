"""KFP's API over HTTP: the paths, each request read strictly by its published model, each answer written by its own."""

from __future__ import annotations

import contextlib
import email
import email.policy
import json
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from google.protobuf import json_format
from kfp_server_api import models

from tests.services.kfp_api import KfpApi, Status, known
from tests.services.kfp_models import Refused, read, write
from tests.services.serving import serving

_API = "/apis/v2beta1"


def handle(api: KfpApi, method: str, path: str, query: dict[str, str], body: bytes, kind: str) -> Any:
    """The answer to a request as a model's object."""
    for pattern, verb, handler in _routes(api):
        if verb == method and (found := re.fullmatch(_API + pattern, path)):
            api.calls.append((method, path.removeprefix(_API)))
            return handler(found, query, body, kind)
    raise Status(404, f"{method} {path}: Not Found")


def _routes(api: KfpApi) -> Iterator[tuple[str, str, Callable[..., Any]]]:
    m = models

    def made(model: type, create: Callable[[Any], Any]) -> Callable[..., Any]:
        return lambda found, query, body, kind: create(read(body, model))

    def listed(answer: type, field: str, items: dict[str, Any]) -> Callable[..., Any]:
        return lambda found, query, body, kind: _page(answer, field, list(items.values()), query)

    def get(items: dict[str, Any]) -> Callable[..., Any]:
        return lambda found, *_: known(items, found[1])

    ident = "/([^/:]+)"
    health = m.V2beta1GetHealthzResponse(multi_user=api.multi_user or None)
    yield "/healthz", "GET", lambda *_: health
    yield "/pipelines", "GET", listed(m.V2beta1ListPipelinesResponse, "pipelines", api.pipelines)
    yield "/pipelines", "POST", made(m.V2beta1Pipeline, api.create_pipeline)
    yield (
        "/pipelines/upload_version",
        "POST",
        lambda found, query, body, kind: api.upload_version(query, _upload(body, kind)),
    )
    yield (
        f"/pipelines{ident}/versions",
        "GET",
        lambda found, query, body, kind: _page(
            m.V2beta1ListPipelineVersionsResponse,
            "pipeline_versions",
            [item for item in api.versions.values() if item.pipeline_id == found[1]],
            query,
        ),
    )
    yield "/experiments", "GET", listed(m.V2beta1ListExperimentsResponse, "experiments", api.experiments)
    yield "/experiments", "POST", made(m.V2beta1Experiment, api.create_experiment)
    yield "/runs", "POST", made(m.V2beta1Run, api.create_run)
    yield f"/runs{ident}", "GET", lambda found, *_: api.get_run(found[1])
    yield "/recurringruns", "GET", listed(m.V2beta1ListRecurringRunsResponse, "recurring_runs", api.recurring)
    yield "/recurringruns", "POST", made(m.V2beta1RecurringRun, api.create_recurring)
    yield f"/recurringruns{ident}", "GET", get(api.recurring)
    yield f"/recurringruns{ident}", "DELETE", lambda found, *_: api.recurring.pop(found[1]) and {}
    yield f"/recurringruns{ident}:enable", "POST", lambda found, *_: api.switch(found[1], "ENABLE")
    yield f"/recurringruns{ident}:disable", "POST", lambda found, *_: api.switch(found[1], "DISABLE")


def _page(answer: type, field: str, items: list[Any], query: dict[str, str]) -> Any:
    """A page of the items that the query's filter lets through."""
    if unknown := set(query) - {"page_token", "page_size", "sort_by", "filter", "namespace", "experiment_id"}:
        raise Status(400, f"unknown query {unknown}")
    if text := query.get("filter"):
        for predicate in read(_spelled(text), models.V2beta1Filter).predicates:
            if predicate.operation != "EQUALS" or predicate.key not in ("name", "display_name"):
                raise Status(400, f"no support for {predicate.operation} {predicate.key}")
            items = [item for item in items if _name(item, predicate.key) == predicate.string_value]
    start, size = int(query.get("page_token") or 0), int(query.get("page_size") or 10)
    rest = str(start + size) if len(items) > start + size else None
    return answer(**{field: items[start : start + size] or None, "total_size": len(items), "next_page_token": rest})


def _spelled(text: str) -> bytes:
    """A filter in the models' spelling: protocol buffers read fields' names and enumerations in two."""
    spelling = {"stringValue": "string_value"}
    given = json.loads(text)
    for predicate in given.get("predicates", ()):
        for name, own in spelling.items():
            if name in predicate:
                predicate[own] = predicate.pop(name)
        if predicate.get("operation") == 1:
            predicate["operation"] = "EQUALS"
    return json.dumps(given).encode()


def _name(item: Any, key: str) -> str:
    return str(getattr(item, key, None) or item.display_name)


def _upload(body: bytes, kind: str) -> bytes:
    """The file of a multipart form."""
    message = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body, policy=email.policy.HTTP)
    (part,) = [
        item for item in message.iter_parts() if item.get_param("name", header="content-disposition") == "uploadfile"
    ]
    return bytes(part.get_payload(decode=True))


def _handler(api: KfpApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(url.query).items()}
            try:
                if api.token and self.headers.get("Authorization") != f"Bearer {api.token}":
                    raise Status(401, "Unauthenticated: the token is not valid")
                kind = self.headers.get("Content-Type") or ""
                status, answer = 200, write(handle(api, self.command, unquote(url.path), query, body, kind))
            except (Status, Refused, json_format.ParseError) as error:
                status = error.code if isinstance(error, Status) else 400
                answer = json.dumps({"error": str(error), "code": 3, "message": str(error), "details": []}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_DELETE = _serve

        def log_message(self, *_: Any) -> None:
            """Tests need no access log."""

    return Handler


@contextlib.contextmanager
def serve(api: KfpApi) -> Iterator[KfpApi]:
    """Serve on a free port; `api.url` is where."""
    with serving(_handler(api)) as api.url:
        yield api
