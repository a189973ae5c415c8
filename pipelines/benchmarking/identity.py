"""What an output folder's results are made of: they are continued by the same evaluation alone, and not overwritten."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.evaluation.benchmarks.judge import Judge
from components.shared.files import write_atomic
from pipelines.benchmarking.asking import DETERMINING, Job
from pipelines.benchmarking.evaluate import Changes
from pipelines.benchmarking.policy import Policy
from pipelines.run_folder import RunRefused
from pipelines.settings import RunSettings

IDENTITY = "evaluation.json"
_JUDGE = "--judge-model"
# what an evaluation of benchmarks reads of the settings; sections are whole
_USED = (
    "generation",
    "pipeline.seed",
    "evaluation.chunk_questions",
    "ingest.decoder",
    "ingest.decode_workers",
    "ingest.decode_timeout",
    "ingest.frame_cache_size",
)


def without_effect(layer: Mapping[str, Any]) -> list[str]:
    """Those of a layer's settings, by their dotted names, that no evaluation of benchmarks reads."""
    names = [
        f"{section}.{name}" if isinstance(values, Mapping) else section
        for section, values in layer.items()
        for name in (values if isinstance(values, Mapping) else [section])
    ]
    return [name for name in names if name not in _USED and name.partition(".")[0] not in _USED]


def claim_folder(
    output: Path,
    jobs: Sequence[Job],
    policy: Policy,
    settings: RunSettings,
    changes: Changes,
    limit: int | None,
    judge: Judge | None,
    store: str,
) -> None:
    """Note in the folder what the jobs' results are made of. Raises RunRefused if it holds results made of something else.

    A result without a judge may be judged later, but not by another judge, nor be made without it again. `store` is
    where the answers are, for the message.
    """
    path = output / IDENTITY
    noted = _noted(path)
    for job in jobs:
        now = _identity(job, policy, settings, changes, limit, judge)
        before = noted.get(job.name, now)
        differs = [name for name in now if before.get(name) != now[name]]
        if differs == [_JUDGE] and before.get(_JUDGE) is None:
            differs = []
        if differs and (output / f"{job.name}.json").exists():  # without a result there is nothing to lose
            told = "; ".join(f"{name} was {_word(before.get(name))}, is {_word(now[name])}" for name in differs)
            raise RunRefused(
                f"--output {output}: holds {job.name} of another evaluation ({told}), which would be overwritten; name "
                f"another folder, with --store {store} if its answers are to be used, too"
            )
        noted[job.name] = now
    write_atomic(path, json.dumps(noted, indent=1, ensure_ascii=False) + "\n")


def _noted(path: Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(path.read_text()) if path.exists() else {}
        if isinstance(found, dict) and all(isinstance(each, dict) for each in found.values()):
            return found
        problem = "not what was written"
    except ValueError as error:
        problem = str(error)
    raise RunRefused(
        f"{path}: damaged ({problem}), so what the folder's results are made of is unknown; name another --output"
    )


def _word(value: object) -> str:
    return "none" if value is None else repr(value)


def _identity(
    job: Job, policy: Policy, settings: RunSettings, changes: Changes, limit: int | None, judge: Judge | None
) -> dict[str, Any]:
    given, generation = changes.given(), settings.generation.model_dump(mode="json")
    return {
        "--policy": policy.digest,
        "--benchmark": str(job.root.resolve()),
        "--limit": limit,
        "--max-frames": given.get("max_frames"),
        "--max-pixels": given.get("max_pixels"),
        "--max-new-tokens": given.get("max_new_tokens"),
        "pipeline.seed": settings.pipeline.seed,
        _JUDGE: judge.model if judge is not None and job.scoring.judge is not None else None,
    } | {f"generation.{name}": generation[name] for name in DETERMINING}
