"""What the KFP face of every step does around its one call: read references, run, write references, report, track.

Every face has the same first arguments and, beside its own artifacts, the same last outputs, not described again there:
`context` (a StepContext as JSON), `settings` (the run's settings as JSON, a section a step), `round_index` (from 1, inside
rounds), `reports` and `new_reports` (what the steps so far reported, and the same with this step's report) and `metrics`.
"""

from __future__ import annotations

import functools
import json
import time
from pathlib import Path
from typing import Any, TypeVar

from kfp import dsl

from components.shared.context import StepContext
from components.shared.images import image
from components.shared.ledger import Outputs
from components.shared.reports import StepReport, step_report
from components.shared.schemas import ArtifactRef
from components.shared.settings import StepSettings

AnySettings = TypeVar("AnySettings", bound=StepSettings)

_SAMPLED = ("warmup", "training")  # steps during which the machine is watched


def step_component(role: str) -> Any:
    """The decorator of every component: our image of that role, kfp baked in, nothing installed when a pod starts.

    Inside a task, where KFP's `dsl` leaves out what only the compiler needs, it leaves a face the plain function it is.
    """
    if not hasattr(dsl, "component"):
        return lambda face: face
    return functools.partial(dsl.component, base_image=image(role), install_kfp_package=False)


def write_ref(artifact: dsl.Artifact, ref: ArtifactRef) -> None:
    """Write a reference into a KFP artifact's file, and its digest, size and URI into the metadata that the UI shows."""
    path = Path(artifact.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(ref.model_dump_json(indent=1))
    artifact.metadata.update({"uri": ref.uri, "digest": ref.digest, "bytes": ref.size, **ref.metadata})


def read_reports(artifact: dsl.Artifact) -> list[StepReport]:
    """The reports that the steps so far handed on, in the order in which they ran."""
    return [StepReport.model_validate(item) for item in json.loads(Path(artifact.path).read_text())]


class StepFace:
    """One execution of a step in a KFP task. `settings` is the run's settings as one JSON object, a section a step."""

    def __init__(self, step: str, context: str, settings: str, round_index: int = 0) -> None:
        from components.shared.processes import die_with_parent
        from components.shared.progress import step_started
        from components.shared.runs import SignsOfLife
        from components.shared.tracking.system import SystemMetrics

        die_with_parent()
        self.step = step
        given = StepContext.model_validate_json(context).model_copy(update={"round": round_index})
        self.context = given.in_this_task()
        self._settings: dict[str, Any] = json.loads(settings)
        self._started = time.monotonic()
        self._inputs: list[ArtifactRef] = []
        self._alive = SignsOfLife(self.context.open_store(), self.context.run_name, self._whole_step)
        self._system = SystemMetrics(self.context, step) if step in _SAMPLED else None
        step_started(self.label)

    @property
    def label(self) -> str:
        """The step's name, with its round inside rounds and, if it makes only a share, its shard."""
        return f"{self._whole_step}, {self.context.shard}" if self.context.shard.is_part else self._whole_step

    @property
    def _whole_step(self) -> str:
        return f"{self.step}, round {self.context.round}" if self.context.round else self.step

    def ref(self, artifact: dsl.Artifact) -> ArtifactRef:
        """The reference that the file of an input holds."""
        found = ArtifactRef.model_validate_json(Path(artifact.path).read_text())
        self._inputs.append(found)
        return found

    def settings(self, section: str, model: type[AnySettings]) -> AnySettings:
        """A section of the run's settings, checked."""
        return model.model_validate(self._settings[section])

    def finish(
        self,
        outputs: Outputs,
        artifacts: dict[str, dsl.Artifact],
        *,
        metrics: dsl.Metrics,
        reports: dsl.Artifact | None = None,
        earlier: dsl.Artifact | None = None,
    ) -> None:
        """Write the step's artifacts by name, its scalar results as KFP metrics, and all of them to MLflow.

        `reports` becomes `earlier` (what the steps before reported) with this step's report at its end. A shard has none
        of these: the step that merges them does it.
        """
        self.finish_parts({self.step: outputs}, artifacts, metrics=metrics, reports=reports, earlier=earlier)

    def finish_parts(
        self,
        parts: dict[str, Outputs],
        artifacts: dict[str, dsl.Artifact],
        *,
        metrics: dsl.Metrics,
        reports: dsl.Artifact | None = None,
        earlier: dsl.Artifact | None = None,
    ) -> None:
        """`finish` for a task that ran several steps, given by name in the order in which they ran."""
        from components.shared.progress import step_finished
        from components.shared.tracking import track_step

        if self.context.shard.is_part:
            self._alive.stop(done=False)
            step_finished(self.label, time.monotonic() - self._started)
            return
        refs = {name: ref for outputs in parts.values() for name, ref in outputs.artifacts.items()}
        for name, artifact in artifacts.items():
            write_ref(artifact, refs[name])
        if self._system:
            self._system.stop()
        written = read_reports(earlier) if earlier is not None else []
        after_round = max((report.round for report in written), default=0)
        for step, outputs in parts.items():
            for name, value in scalars(outputs.results).items():
                metrics.log_metric(name, value)
            warnings = track_step(self.context, step, outputs, after_round, self._inputs)
            report = step_report(step, self.context.round, outputs)
            written.append(report.model_copy(update={"results": {**report.results, "tracking_warnings": warnings}}))
        if reports is not None:
            Path(reports.path).parent.mkdir(parents=True, exist_ok=True)
            Path(reports.path).write_text(json.dumps([item.model_dump(mode="json") for item in written]))
        self._alive.stop()
        step_finished(self.label, time.monotonic() - self._started)


class SamplingFace(StepFace):
    """A step that samples responses: it also has an engine, not started until it is needed."""

    def __init__(self, step: str, context: str, settings: str, round_index: int = 0) -> None:
        from components.shared.generation import GenerationSettings, make_sampler
        from components.shared.rewards.settings import RewardSettings
        from components.shared.sampling.settings import SamplingSettings

        super().__init__(step, context, settings, round_index)
        self.sampler = make_sampler(self.settings("generation", GenerationSettings))
        self.sampling = self.settings("sampling", SamplingSettings)
        self.rewards = self.settings("rewards", RewardSettings)


def scalars(results: dict[str, Any]) -> dict[str, float]:
    """The numbers among a step's results, as floats; booleans as 0 and 1."""
    return {name: float(value) for name, value in results.items() if isinstance(value, int | float)}
