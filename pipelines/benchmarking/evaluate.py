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
from components.evaluation.benchmarks.judge import Judge
from components.evaluation.benchmarks.judging import judged
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
    _write_responses(job, desk, _answers(job, outcome))
    bad = "".join(item.model_dump_json() + "\n" for item in outcome.quarantined.values())
    write_atomic(desk.output / f"{job.name}.quarantine.jsonl", bad)
    return outcome


def _answers(job: Job, outcome: Outcome) -> Answers:
    """What there is to score; without the items of other shards."""
    kept = job.scoring.decoding.kept
    said = {name: Response(id=name, text=kept(answer.text)) for name, answer in outcome.answers.items()}
    failed = {name: Response(id=name, text=None, error=why) for name, why in outcome.problems.items() if why}
    return Answers(job.samples, failed | said)


def _write_responses(job: Job, desk: Desk, answers: Answers) -> None:
    """NAME.responses.jsonl, as `deepvideo score` reads it."""
    found = (answers.responses.get(sample.id) for sample in answers.samples)
    lines = (json.dumps(_line(one), ensure_ascii=False) + "\n" for one in found if one)
    write_atomic(desk.output / f"{job.name}.responses.jsonl", "".join(lines))


def _line(response: Response) -> dict[str, Any]:
    line: dict[str, Any] = {"id": response.id, "response": response.text}
    if response.text is None:
        return line | {"error": response.error}
    if response.judge_reply:  # a judge that failed is asked again
        line |= {"judge_reply": response.judge_reply, "judge_model": response.judge_model}
    return line


def score(
    job: Job,
    outcome: Outcome,
    desk: Desk,
    changes: Changes,
    *,
    allow_missing: bool,
    judge: Judge | None,
) -> dict[str, Any]:
    """The job's result, as `deepvideo score` makes it of the responses, with what it was made by; in NAME.json.

    The judge's replies are kept in the store, and stand in NAME.responses.jsonl. Raises BenchmarkError where items have
    no score, unless `allow_missing`, and where the judge cannot be used.
    """
    answers = _answers(job, outcome)
    if judge is not None:
        answers = judged(job.benchmark, job.scoring, answers, judge, desk.store, allow_missing=allow_missing)
        _write_responses(job, desk, answers)
    result = score_answered(
        job.benchmark,
        job.scoring,
        answers,
        f"{job.name}.responses.jsonl",
        allow_missing=allow_missing,
        judge=judge.model if judge else "",
        seed=desk.settings.pipeline.seed,
        remedy=f"mend what {job.name}.quarantine.jsonl names or {job.name}.responses.jsonl gives as an error, and run the "
        "same command again",
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
