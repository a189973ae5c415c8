"""KFP's API over HTTP, from KFP's own published models: what a request may say, and what the API server checks (2.17).

Requests are read strictly (unknown fields and parameters are refused), answers are written by the models' serialiser.
Nothing runs: a run's tasks go on by one each time that the run is asked for.
"""

from __future__ import annotations

import contextlib
import datetime
import email
import email.policy
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from kfp_server_api import models

from tests.services.kfp_argo import Workflow
from tests.services.kfp_models import Refused, read, write

_API = "/apis/v2beta1"
_TYPES = {"STRING": str, "NUMBER_INTEGER": int, "NUMBER_DOUBLE": (int, float), "BOOLEAN": bool, "LIST": list, "STRUCT": dict}
_GO_DATES = {"2006": "%Y", "01": "%m", "02": "%d", "15": "%H", "04": "%M"}


class Status(Exception):
    """An answer that is an error: HTTP status and message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class KfpApi:
    """What the server holds. `token`, if any, must come with every request; `fail` is how the next run ends."""

    def __init__(self, token: str = "", multi_user: bool = False) -> None:
        self.token, self.multi_user, self.url = token, multi_user, ""
        self.pipelines: dict[str, Any] = {}
        self.versions: dict[str, Any] = {}
        self.experiments: dict[str, Any] = {}
        self.runs: dict[str, Any] = {}
        self.recurring: dict[str, Any] = {}
        self.fail: dict[str, Any] = {}
        self.calls: list[tuple[str, str]] = []
        self.busy = 0  # so many looks at a run are answered with 503
        self._workflows: dict[str, Workflow] = {}

    def fire(self, recurring_id: str, now: datetime.datetime) -> Any:
        """What the scheduler does when a recurring run is due: a run of its stored spec, the macros replaced."""
        job = self.recurring[recurring_id]
        parameters = {
            name: _macros(value, now) if isinstance(value, str) else value
            for name, value in (job.runtime_config.parameters or {}).items()
        }
        run = models.V2beta1Run(
            display_name=job.display_name,
            experiment_id=job.experiment_id,
            recurring_run_id=recurring_id,
            pipeline_version_reference=job.pipeline_version_reference,
            runtime_config=models.V2beta1RuntimeConfig(parameters=parameters),
        )
        return self.create_run(run)

    def create_run(self, run: Any) -> Any:
        """The run, checked and begun."""
        spec = self._checked(run)
        run.run_id, run.state, run.created_at = str(uuid.uuid4()), "PENDING", datetime.datetime.now(datetime.UTC)
        self.runs[run.run_id] = run
        self._workflows[run.run_id] = Workflow(run.run_id, spec, **self.fail)
        return run

    def get_run(self, run_id: str) -> Any:
        """The run, a task further on."""
        if self.busy:
            self.busy -= 1
            raise Status(503, "the database is away")
        run, workflow = _known(self.runs, run_id), self._workflows[run_id]
        workflow.tick()
        run.state, run.run_details = workflow.state, models.V2beta1RunDetails(task_details=workflow.nodes)
        return run

    def create_recurring(self, job: Any) -> Any:
        """The recurring run, checked as the API server does."""
        self._checked(job)
        if not 1 <= int(job.max_concurrency or 0) <= 10:
            raise Status(400, f"Max concurrency of a recurring run must be at least 1 and at most 10: {job.max_concurrency}")
        cron = job.trigger.cron_schedule.cron
        if not 5 <= len(cron.split()) <= 6 or not all(re.fullmatch(r"[\w*?,/-]+", part) for part in cron.split()):
            raise Status(400, f"Schedule cron is not a supported format. Expected 5 to 6 fields: {cron}")
        if job.mode == "MODE_UNSPECIFIED" or not job.mode:
            raise Status(400, "mode is not set")
        job.recurring_run_id, job.created_at = str(uuid.uuid4()), datetime.datetime.now(datetime.UTC)
        job.status = f"{job.mode}D"
        self.recurring[job.recurring_run_id] = job
        return job

    def switch(self, recurring_id: str, mode: str) -> Any:
        """Enable or disable."""
        job = _known(self.recurring, recurring_id)
        job.mode, job.status = mode, f"{mode}D"
        return {}

    def create_pipeline(self, pipeline: Any) -> Any:
        """The pipeline; its name must be new."""
        if any(item.name == pipeline.name for item in self.pipelines.values()):
            raise Status(409, f"Failed to create a new pipeline. The name {pipeline.name} already exist.")
        pipeline.pipeline_id = str(uuid.uuid4())
        self.pipelines[pipeline.pipeline_id] = pipeline
        return pipeline

    def upload_version(self, query: dict[str, str], content: bytes) -> Any:
        """A version from an uploaded file, which must be a pipeline by KFP's schema."""
        if unknown := set(query) - {"name", "display_name", "pipelineid", "description", "tags"}:
            raise Status(400, f"unknown query {unknown}")
        _known(self.pipelines, query.get("pipelineid", ""))
        spec, *platform = yaml.safe_load_all(content)
        json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
        for item in platform:
            json_format.ParseDict(item, pipeline_spec_pb2.PlatformSpec())
        if any(item.name == query["name"] for item in self.versions.values()):
            raise Status(409, f"Failed to create a new pipeline version. The name {query['name']} already exist.")
        version = models.V2beta1PipelineVersion(
            pipeline_id=query["pipelineid"], pipeline_version_id=str(uuid.uuid4()), name=query["name"],
            display_name=query["name"], description=query.get("description"), pipeline_spec=spec,
        )  # fmt: skip
        self.versions[version.pipeline_version_id] = version
        return version

    def create_experiment(self, experiment: Any) -> Any:
        """The experiment; where KFP serves several namespaces it must name one."""
        if self.multi_user and not experiment.namespace:
            raise Status(400, "Namespace is required")
        experiment.experiment_id = str(uuid.uuid4())
        self.experiments[experiment.experiment_id] = experiment
        return experiment

    def _checked(self, run: Any) -> dict[str, Any]:
        """The spec that a run or recurring run names, its parameters and their values checked against it."""
        if not run.display_name:
            raise Status(400, "The name cannot be empty")
        _known(self.experiments, run.experiment_id or "")
        reference = run.pipeline_version_reference
        spec = _known(self.versions, reference.pipeline_version_id if reference else "").pipeline_spec
        inputs = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        given = run.runtime_config.parameters or {}
        if unknown := sorted(set(given) - set(inputs)):
            raise Status(400, f"parameter {unknown} is not an input of the pipeline")
        for name, value in given.items():
            if not isinstance(value, _TYPES[inputs[name]["parameterType"]]):
                raise Status(400, f"parameter {name}: {value!r} is no {inputs[name]['parameterType']}")
            if (literals := inputs[name].get("literals")) and value not in literals:
                raise Status(400, f"parameter {name}: {value!r} is none of {literals}")
        if len(json.dumps(given)) > 10_000:
            raise Status(400, "the parameters are larger than 10000 bytes")
        return spec

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes, kind: str) -> Any:
        """The answer to a request as a model's object."""
        for pattern, verb, handler in self._routes():
            if verb == method and (found := re.fullmatch(_API + pattern, path)):
                self.calls.append((method, path.removeprefix(_API)))
                return handler(found, query, body, kind)
        raise Status(404, f"{method} {path}: Not Found")

    def _routes(self) -> Iterator[tuple[str, str, Callable[..., Any]]]:
        m = models

        def made(model: type, create: Callable[[Any], Any]) -> Callable[..., Any]:
            return lambda found, query, body, kind: create(read(body, model))

        def listed(answer: type, field: str, items: dict[str, Any]) -> Callable[..., Any]:
            return lambda found, query, body, kind: _page(answer, field, list(items.values()), query)

        def get(items: dict[str, Any]) -> Callable[..., Any]:
            return lambda found, *_: _known(items, found[1])

        ident = "/([^/:]+)"
        health = m.V2beta1GetHealthzResponse(multi_user=self.multi_user or None)
        yield "/healthz", "GET", lambda *_: health
        yield "/pipelines", "GET", listed(m.V2beta1ListPipelinesResponse, "pipelines", self.pipelines)
        yield "/pipelines", "POST", made(m.V2beta1Pipeline, self.create_pipeline)
        yield "/pipelines/upload_version", "POST", lambda found, query, body, kind: self.upload_version(
            query, _upload(body, kind)
        )
        yield f"/pipelines{ident}/versions", "GET", lambda found, query, body, kind: _page(
            m.V2beta1ListPipelineVersionsResponse,
            "pipeline_versions",
            [item for item in self.versions.values() if item.pipeline_id == found[1]],
            query,
        )
        yield "/experiments", "GET", listed(m.V2beta1ListExperimentsResponse, "experiments", self.experiments)
        yield "/experiments", "POST", made(m.V2beta1Experiment, self.create_experiment)
        yield "/runs", "POST", made(m.V2beta1Run, self.create_run)
        yield f"/runs{ident}", "GET", lambda found, *_: self.get_run(found[1])
        yield "/recurringruns", "GET", listed(m.V2beta1ListRecurringRunsResponse, "recurring_runs", self.recurring)
        yield "/recurringruns", "POST", made(m.V2beta1RecurringRun, self.create_recurring)
        yield f"/recurringruns{ident}", "GET", get(self.recurring)
        yield f"/recurringruns{ident}", "DELETE", lambda found, *_: self.recurring.pop(found[1]) and {}
        yield f"/recurringruns{ident}:enable", "POST", lambda found, *_: self.switch(found[1], "ENABLE")
        yield f"/recurringruns{ident}:disable", "POST", lambda found, *_: self.switch(found[1], "DISABLE")


def _known(items: dict[str, Any], identifier: str) -> Any:
    if identifier not in items:
        raise Status(404, f"{identifier!r} not found")
    return items[identifier]


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
    (part,) = [item for item in message.iter_parts() if item.get_param("name", header="content-disposition") == "uploadfile"]
    return bytes(part.get_payload(decode=True))


def _macros(text: str, now: datetime.datetime) -> str:
    """KFP's macro of the current time, with Go's layout."""

    def replaced(found: re.Match[str]) -> str:
        layout = found[1]
        for go, part in _GO_DATES.items():
            layout = layout.replace(go, part)
        return now.strftime(layout)

    return re.sub(r"\[\[CurrentTime\.(.*?)\]\]", replaced, text)


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
                status, answer = 200, write(api.answer(self.command, unquote(url.path), query, body, kind))
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
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(api))
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
