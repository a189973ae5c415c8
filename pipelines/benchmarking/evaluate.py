"""From a policy and copies of benchmarks to scored results and the files that they leave."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.evaluation.benchmarks import BenchmarkError, Scoring, find_benchmark
from components.evaluation.benchmarks.contracts import FramePolicy
from components.evaluation.benchmarks.engine import engine_versions
from components.evaluation.benchmarks.responses import Answers, Response, read_copy
from components.evaluation.benchmarks.rows import find_medium
from components.ingest.frame_size import FrameSize
from components.shared.context import generator
from components.shared.files import write_atomic
from components.shared.schemas import Sample
from pipelines.benchmarking.asking import Desk, Job, Outcome, answer_job
from pipelines.benchmarking.policy import Policy
from pipelines.score_cli import score_answered
from pipelines.settings import RunSettings, SettingsError, build_settings

_MAX_MODEL_LEN = 32768  # tokens; less where the model takes less. 64 frames at the bound of qwen-vl-utils are 24,576
_NAMED = 3  # examples in a refusal


@dataclass(frozen=True)
class Changes:
    """What is asked otherwise than the protocol says; None: as it says. Results name it."""

    max_frames: int | None = None
    max_pixels: int | None = None  # of a frame
    max_new_tokens: int | None = None

    def given(self) -> dict[str, int]:
        """The changes by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def apply(self, scoring: Scoring) -> Scoring:
        """The protocol with these changes."""
        frames, decoding = scoring.frames, scoring.decoding
        if self.max_frames is not None:
            least = min(frames.min_frames, self.max_frames)
            frames = frames.model_copy(update={"max_frames": self.max_frames, "min_frames": least})
        if self.max_pixels is not None:
            frames = _below(frames, self.max_pixels)
        if self.max_new_tokens is not None:
            decoding = decoding.model_copy(update={"max_new_tokens": self.max_new_tokens})
        return replace(scoring, frames=frames, decoding=decoding)


def _below(frames: FramePolicy, max_pixels: int) -> FramePolicy:
    fixed = frames.size if frames.size and frames.size[0] * frames.size[1] <= max_pixels else None
    least = min(frames.min_pixels or FrameSize().min_pixels, int(max_pixels / 1.05))
    return frames.model_copy(update={"size": fixed, "min_pixels": least, "max_pixels": max_pixels})


def evaluation_settings(policy: Policy, *layers: dict[str, Any], origins: Sequence[str] = ()) -> RunSettings:
    """The settings, with an engine as long as benchmarks need, or as the model allows. Raises SettingsError."""
    config = json.loads((policy.folder / "config.json").read_text())
    longest = config.get("text_config", config).get("max_position_embeddings") or config.get("max_position_embeddings")
    first = {"generation": {"max_model_len": min(_MAX_MODEL_LEN, longest or _MAX_MODEL_LEN)}}
    settings = build_settings(first, *layers, origins=("", *origins))
    if settings.generation.engine != "vllm":
        raise SettingsError("generation.engine: benchmarks are asked by vllm, in each protocol's own words")
    return settings


def prepare(
    name: str, root: Path, protocol: str, changes: Changes, *, allow_missing: bool, limit: int | None, seed: int
) -> Job:
    """The job of one benchmark, its copy checked. `limit`: so many of its items, drawn by `seed`.

    Raises BenchmarkError, naming what lacks, without annotation files, and unless `allow_missing` without videos.
    """
    benchmark = find_benchmark(name)
    scoring = changes.apply(benchmark.protocol(protocol))
    check = f"`deepvideo score --benchmark {name} --data {root} --check` lists all that is missing"
    if (lacking := benchmark.lacking(root)) and not allow_missing:
        raise BenchmarkError(f"--benchmark {name}={root}: lacks {', '.join(lacking[:_NAMED])}; {check}")
    samples = _drawn(read_copy(benchmark, root), limit, seed)
    media = dict.fromkeys(path for sample in samples for path in (sample.video, sample.image) if path)
    missing = [path for path in media if find_medium(root, path) is None]
    if missing and not allow_missing:
        raise BenchmarkError(
            f"--benchmark {name}={root}: {len(missing)} of {len(media)} videos and images are missing, such as "
            f"{', '.join(missing[:_NAMED])}; {check}; --allow-missing evaluates what is there"
        )
    return Job(benchmark, scoring, root, samples)


def _drawn(samples: tuple[Sample, ...], limit: int | None, seed: int) -> tuple[Sample, ...]:
    if limit is None or limit >= len(samples):
        return samples
    chosen = generator(seed, 0, samples[0].source, "benchmark subset").choice(len(samples), limit, replace=False)
    return tuple(samples[index] for index in sorted(chosen))


def ask(job: Job, desk: Desk) -> Outcome:
    """The job's answers; NAME.responses.jsonl and NAME.quarantine.jsonl in the output folder hold them and what was unusable."""
    outcome = answer_job(job, desk)
    lines = [_response(job, outcome, sample) for sample in job.samples]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines if line)
    write_atomic(desk.output / f"{job.name}.responses.jsonl", text)
    bad = "".join(item.model_dump_json() + "\n" for item in outcome.quarantined.values())
    write_atomic(desk.output / f"{job.name}.quarantine.jsonl", bad)
    return outcome


def _response(job: Job, outcome: Outcome, sample: Sample) -> dict[str, Any] | None:
    """A line that `deepvideo score` reads; None for an item of another shard."""
    if answer := outcome.answers.get(sample.id):
        return {"id": sample.id, "response": job.scoring.decoding.kept(answer.text)}
    problem = outcome.problems.get(sample.id)
    return {"id": sample.id, "response": None, "error": problem} if problem else None


def score(
    job: Job,
    outcome: Outcome,
    desk: Desk,
    changes: Changes,
    *,
    allow_missing: bool,
    judge: tuple[str, str] | None,
) -> dict[str, Any]:
    """The job's result, as `deepvideo score` makes it of the responses, with what it was made by; in NAME.json.

    Raises BenchmarkError where items have no score, unless `allow_missing`.
    """
    responses = {}
    for sample in job.samples:
        if line := _response(job, outcome, sample):
            responses[sample.id] = Response(id=sample.id, text=line["response"], error=line.get("error", ""))
    answers = Answers(job.samples, responses)
    result = score_answered(
        job.benchmark,
        job.scoring,
        answers,
        f"{job.name}.responses.jsonl",
        allow_missing=allow_missing,
        judge=judge,
        seed=desk.settings.pipeline.seed,
    )
    given = list(outcome.answers.values())
    result |= {
        "policy": desk.policy.digest,
        "frames": job.scoring.frames.model_dump(mode="json"),
        "decoding": job.scoring.decoding.model_dump(mode="json"),
        "changed": changes.given(),
        "cut_off": sum(not answer.stopped for answer in given),
        "mean_tokens": sum(answer.tokens for answer in given) / len(given) if given else None,
        "engines": engine_versions(),
    }
    write_atomic(desk.output / f"{job.name}.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return result


def needs_images(jobs: Sequence[Job]) -> bool:
    """Whether any question shows an image beside its video: the one engine is started for it."""
    return any(sample.image for job in jobs for sample in job.samples)
