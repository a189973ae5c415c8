"""What KFP's API server (2.17) holds and checks, in the objects of its published models; kfp_http.py serves it.

Nothing runs: a run's tasks go on by one each time that the run is asked for.
"""

from __future__ import annotations

import datetime
import json
import re
import uuid
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from kfp_server_api import models

from tests.services.kfp_argo import Workflow

_TYPES = {
    "STRING": str,
    "NUMBER_INTEGER": int,
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": bool,
    "LIST": list,
    "STRUCT": dict,
}
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
        run, workflow = known(self.runs, run_id), self._workflows[run_id]
        workflow.tick()
        run.state, run.run_details = workflow.state, models.V2beta1RunDetails(task_details=workflow.nodes)
        return run

    def create_recurring(self, job: Any) -> Any:
        """The recurring run, checked as the API server does."""
        self._checked(job)
        if not 1 <= int(job.max_concurrency or 0) <= 10:
            raise Status(
                400, f"Max concurrency of a recurring run must be at least 1 and at most 10: {job.max_concurrency}"
            )
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
        job = known(self.recurring, recurring_id)
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
        known(self.pipelines, query.get("pipelineid", ""))
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
        known(self.experiments, run.experiment_id or "")
        reference = run.pipeline_version_reference
        spec = known(self.versions, reference.pipeline_version_id if reference else "").pipeline_spec
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


def known(items: dict[str, Any], identifier: str) -> Any:
    if identifier not in items:
        raise Status(404, f"{identifier!r} not found")
    return items[identifier]


def _macros(text: str, now: datetime.datetime) -> str:
    """KFP's macro of the current time, with Go's layout."""

    def replaced(found: re.Match[str]) -> str:
        layout = found[1]
        for go, part in _GO_DATES.items():
            layout = layout.replace(go, part)
        return now.strftime(layout)

    return re.sub(r"\[\[CurrentTime\.(.*?)\]\]", replaced, text)
