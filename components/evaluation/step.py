"""The evaluation step: a policy's accuracy on the held-out levels, with intervals, and against a baseline."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from components.evaluation.settings import EvaluationSettings
from components.shared.context import StepContext
from components.shared.generation import Sampler
from components.shared.ledger import Outputs
from components.shared.rewards.settings import RewardSettings
from components.shared.sampling.keys import sampling_key
from components.shared.sampling.settings import SamplingSettings
from components.shared.schemas import PROMOTION_SPLIT, ArtifactRef
from components.shared.sharding import Chunk, made_chunks


def evaluate(
    dataset: ArtifactRef,
    policy: ArtifactRef,
    settings: EvaluationSettings,
    sampler: Sampler,
    context: StepContext,
    baseline: ArtifactRef | None = None,
    label: Literal["before", "after", "champion"] = "before",
) -> Outputs:
    """Ask the policy every question of the levels and score its answers.

    Leaves one artifact, `scores`; `results` holds the headline figures by metric name. With `baseline` (another
    policy's scores over the same questions) the paired differences and the flipped greedy answers are there too. A shard
    leaves its share of the answers to the step that merges them, and no artifact.

    Raises ValueError if a level is unknown, or if the baseline answers other questions.
    """
    started = time.monotonic()
    store, ledger = context.open_store(), context.open_ledger()
    inputs = {"dataset": dataset, "policy": policy} | ({"baseline": baseline} if baseline else {})
    rewards = RewardSettings(reward_funcs=("accuracy",))
    # how questions are asked stands in EvaluationSettings: SamplingSettings is a round's, here at its defaults
    key = sampling_key(ledger, f"evaluation-{label}", inputs, context, settings, sampler, SamplingSettings(), rewards)
    if done := ledger.finished(key):
        return done

    from components.evaluation.answering import answer_questions
    from components.evaluation.figures import tracked_metrics
    from components.evaluation.questions import chosen_levels, chosen_questions
    from components.shared.dataset import DatasetReader
    from components.shared.scores import answers_from_parquet, answers_to_parquet, paired, read_answers

    reader = DatasetReader(store.get(dataset))
    levels = chosen_levels(reader, settings.levels)
    samples = chosen_questions(reader, levels, settings.questions_per_level, context.seed)
    before = paired([sample.id for sample in samples], read_answers(store.get(baseline))) if baseline else []
    startup_before = sampler.startup_seconds

    def chunk(start: int) -> Chunk:
        asked = samples[start : start + settings.chunk_questions]

        def make() -> bytes:
            folder = store.get(policy)  # whoever finds all answers there needs no policy
            return answers_to_parquet(answer_questions(reader, folder, asked, settings, sampler, context.seed))

        return Chunk(name=f"{start:07d}", prompts=len(asked), make=make)

    chunks = [chunk(start) for start in range(0, len(samples), settings.chunk_questions)]
    made = made_chunks(ledger, key, chunks, label=f"Evaluating ({label})", unit="questions")
    answers = [answer for data in made for answer in answers_from_parquet(data)]
    if ledger.shard.is_part:
        startup = sampler.startup_seconds - startup_before
        return ledger.finish_share(key, time.monotonic() - started - startup, startup)

    figures = _figures(answers, before, settings, context.seed)
    about = {"schema_version": 1, "label": label, "dataset": dataset.digest, "policy": policy.digest}
    metadata: dict[str, str | int | float | bool] = {"label": label, "policy": policy.digest, "questions": len(answers)}
    with tempfile.TemporaryDirectory() as scratch:
        _write(Path(scratch) / "scores", about | settings.model_dump(mode="json") | figures, answers, before)
        scores = store.put(Path(scratch) / "scores", "scores", metadata)

    startup = sampler.startup_seconds - startup_before
    results: dict[str, object] = {"label": label, "questions": len(answers), "levels": levels}
    results["engines"] = dict(sampler.versions)
    results |= tracked_metrics(figures["levels"], figures["changes"], label)
    seconds = time.monotonic() - started - startup
    outputs = Outputs(artifacts={"scores": scores}, results=results, seconds=seconds, startup_seconds=startup)
    return ledger.finish(key, outputs)


def _figures(answers: Sequence[Any], before: Sequence[Any], settings: EvaluationSettings, seed: int) -> dict[str, Any]:
    from components.evaluation.figures import changes_by_level, figures_by_level

    confidence, resamples = settings.confidence, settings.bootstrap_resamples
    levels = figures_by_level(answers, confidence=confidence, resamples=resamples, seed=seed)
    changes = changes_by_level(answers, before, confidence=confidence, resamples=resamples, seed=seed) if before else {}
    return {"levels": levels, "changes": changes}


def _write(folder: Path, scores: dict[str, Any], answers: Sequence[Any], before: Sequence[Any]) -> None:
    from components.evaluation.figures import flips
    from components.shared.scores import ANSWERS, FLIPS, SCORES, answers_to_parquet

    folder.mkdir()
    (folder / SCORES).write_text(json.dumps(scores, indent=1, allow_nan=False))
    (folder / ANSWERS).write_bytes(answers_to_parquet(answers))
    if before:
        rows = [row for row in flips(answers, before) if row["level"] != PROMOTION_SPLIT]
        (folder / FLIPS).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
