"""A benchmark's questions put to a policy, chunk by chunk: what the store has answers to is not asked again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.evaluation.benchmarks import Benchmark, Scoring
from components.evaluation.benchmarks.answers import Answer, AnswerBook, answer_key
from components.evaluation.benchmarks.engine import Asked, BenchmarkEngine, engine_code, engine_versions
from components.evaluation.benchmarks.telling import note, told_progress
from components.ingest.prompt_length import vision_grid
from components.shared.context import derived_seed
from components.shared.generation import Prompt
from components.shared.schemas import Quarantined, Sample
from components.shared.store import Store
from pipelines.benchmarking.frames import BenchmarkFrames, Medium, Seen, media_of
from pipelines.benchmarking.policy import Policy
from pipelines.settings import RunSettings

ASKED, _SCRATCH = "asked.jsonl", ".scratch"
_CHUNK_BYTES = 2e9  # of a chunk's frames; as numbers that the model takes they are four times as many
# of the generation settings, those that answers depend on; the others move speed and memory alone
DETERMINING = ("engine", "dtype", "tensor_parallel_size", "enforce_eager")


@dataclass(frozen=True)
class Job:
    """One benchmark, from the user's copy at `root`, under one protocol."""

    benchmark: Benchmark
    scoring: Scoring
    root: Path
    samples: tuple[Sample, ...]

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.benchmark.name}.{self.scoring.name}"


@dataclass(frozen=True)
class Desk:
    """What all jobs of an evaluation share. `shard`: (which, of how many), from 0; the others' chunks are not asked."""

    policy: Policy
    engine: BenchmarkEngine
    store: Store
    settings: RunSettings
    output: Path
    shard: tuple[int, int] = (0, 1)


@dataclass
class Outcome:
    """What a job has: answers and problems by item id, unusable media, and how many items were asked this time."""

    answers: dict[str, Answer] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    quarantined: dict[Medium, Quarantined] = field(default_factory=dict)
    asked: int = 0


def answer_job(job: Job, desk: Desk) -> Outcome:
    """Every answer to the job's questions that there is or can be had, asked in chunks of evaluation.chunk_questions at most.

    An answer is known by all that determines it: policy, item, prompt, frames, decoding, seed, engine and its version.
    What is asked is first appended to `asked.jsonl` in the output folder.
    """
    scratch = desk.output / _SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
    factor, settings = vision_grid(desk.policy.folder).factor, desk.settings.ingest
    frames = BenchmarkFrames(job.root, job.scoring.frames, desk.store, settings, factor, scratch)
    try:
        outcome = _Asking(job, desk, frames).run()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if outcome.asked:
        frames.trim()
    return outcome


class _Asking:
    def __init__(self, job: Job, desk: Desk, frames: BenchmarkFrames) -> None:
        self._job, self._desk, self._frames = job, desk, frames
        self._book = AnswerBook(desk.store, desk.policy.digest, job.benchmark.name)
        self._media = {sample.id: media_of(sample, job.scoring.frames) for sample in job.samples}
        self._seen: dict[Medium, Seen | Quarantined] = {}
        self._outcome = Outcome()

    def run(self) -> Outcome:
        which, of = self._desk.shard
        size = min(self._desk.settings.evaluation.chunk_questions, max(1, int(_CHUNK_BYTES / self._frames.largest)))
        self._recall()
        chunks = [self._job.samples[start : start + size] for start in range(0, len(self._job.samples), size)]
        mine = {number: chunk for number, chunk in enumerate(chunks) if number % of == which}
        total = sum(len(chunk) for chunk in mine.values())
        missing = {
            number: [sample for sample in chunk if not self._is_answered(sample)] for number, chunk in mine.items()
        }
        wanted = list(
            dict.fromkeys(m for chunk in missing.values() for sample in chunk for m in self._media[sample.id])
        )
        with (
            told_progress(self._job.benchmark.title, total=total, unit="questions") as advance,
            self._frames.look(wanted) as looked,
        ):
            advance(total - sum(len(chunk) for chunk in missing.values()))
            stream = zip(wanted, looked, strict=True)
            place = {medium: index for index, medium in enumerate(wanted, start=1)}
            last_use = {medium: n for n, chunk in missing.items() for s in chunk for medium in self._media[s.id]}
            for number, chunk in missing.items():
                needed = {medium for sample in chunk for medium in self._media[sample.id]}
                self._frames.need(max((place[medium] for medium in needed), default=0))
                while not needed <= self._seen.keys():
                    medium, what = next(stream)
                    self._seen[medium] = what
                self._ask(number, chunk)
                for medium in sorted(needed, key=lambda medium: place[medium]):
                    what = self._seen[medium]
                    if last_use[medium] == number and isinstance(what, Seen):
                        self._frames.done_with(what)
                advance(len(chunk))
        return self._outcome

    def _recall(self) -> None:
        """The answers that the store has to questions about media that were seen before."""
        known = self._frames.known({medium for media in self._media.values() for medium in media})
        for sample in self._job.samples:
            shown = [known.get(medium) for medium in self._media[sample.id]]
            found = self._book.find(self._key(sample, [one for one in shown if one])) if all(shown) else None
            if found:
                self._outcome.answers[sample.id] = found

    def _is_answered(self, sample: Sample) -> bool:
        return sample.id in self._outcome.answers

    def _ask(self, number: int, chunk: Sequence[Sample]) -> None:
        questions: list[Asked] = []
        keys: list[str] = []
        for sample in chunk:
            shown = self._shown(sample)
            if shown is None:
                continue
            key = self._key(sample, shown)
            if found := self._book.find(key):  # the same content under another name or time
                self._outcome.answers[sample.id] = found
                continue
            questions.append(self._question(sample, shown))
            keys.append(key)
        if not questions:
            return
        job, desk = self._job, self._desk
        ids = [question.shown.key for question in questions]
        told = {"benchmark": job.benchmark.name, "protocol": job.scoring.name, "chunk": number, "items": ids}
        append_line(desk.output / ASKED, told)
        self._outcome.asked += len(questions)
        if not desk.engine.versions:
            note("Starting vLLM with the policy: questions are answered from then on")
        said = desk.engine.ask(desk.policy.folder, questions, job.scoring.decoding, text_first=job.scoring.text_first)
        answers = []
        for name, key, one in zip(ids, keys, said, strict=True):
            if one.problem:
                self._outcome.problems[name] = one.problem
            else:
                answers.append(Answer(id=name, key=key, text=one.text, tokens=one.tokens, stopped=one.stopped))
        self._book.keep(answers)
        self._outcome.answers |= {answer.id: answer for answer in answers}

    def _shown(self, sample: Sample) -> list[Seen] | None:
        """The question's media; None if one is unusable, which is noted."""
        shown: list[Seen] = []
        for medium in self._media[sample.id]:
            what = self._seen[medium]
            if isinstance(what, Quarantined):
                before = self._outcome.quarantined.get(medium)
                count = before.samples + 1 if before else 1
                self._outcome.quarantined[medium] = what.model_copy(update={"samples": count})
                self._outcome.problems[sample.id] = f"{what.item}: {what.reason}: {what.detail}"
                return None
            shown.append(what)
        return shown

    def _question(self, sample: Sample, shown: Sequence[Seen]) -> Asked:
        video, *image = (self._frames.load(one) for one in shown)
        prompt = Prompt(
            key=sample.id, sample=sample, frames=video, fps=shown[0].fps, image=image[0][0] if image else None
        )
        return Asked(prompt, self._job.scoring.prompt(sample), self._seed(sample))

    def _seed(self, sample: Sample) -> int:
        return derived_seed(self._desk.settings.pipeline.seed, 0, sample.id, f"benchmark {self._job.benchmark.name}")

    def _key(self, sample: Sample, shown: Sequence[Seen]) -> str:
        scoring, generation = self._job.scoring, self._desk.settings.generation.model_dump(mode="json")
        determined_by: Mapping[str, Any] = {
            "policy": self._desk.policy.digest,
            "benchmark": self._job.benchmark.name,
            "item": sample.id,
            "prompt": scoring.prompt(sample),
            "text_first": scoring.text_first,
            "frames": [(one.digest, one.fps) for one in shown],
            "decoding": scoring.decoding.model_dump(mode="json", exclude={"returned", "first_line"}),
            "seed": self._seed(sample),
            "generation": {name: generation[name] for name in DETERMINING},
            "engines": engine_versions(),
            "code": engine_code(),
        }
        return answer_key(determined_by)


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Append a line of JSON, on the disk before this returns."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(file, json.dumps(row, ensure_ascii=False).encode() + b"\n")
        os.fsync(file)
    finally:
        os.close(file)
