"""Asks a policy questions and scores what it says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from components.evaluation.parsing import is_parsed
from components.evaluation.settings import EvaluationSettings
from components.shared.context import derived_seed
from components.shared.dataset import DatasetReader
from components.shared.generation import Prompt, Sampled, Sampler
from components.shared.rewards import score
from components.shared.schemas import Sample
from components.shared.scores import Answer, Answered


def answer_questions(
    reader: DatasetReader,
    policy: Path,
    samples: Sequence[Sample],
    settings: EvaluationSettings,
    sampler: Sampler,
    seed: int,
) -> list[Answered]:
    """The policy's sampled answers (and the greedy one) to each sample, on its stored frames: nothing is augmented.

    Seeds depend on the run's seed and the sample alone, so that two policies are asked under the same draws.
    """
    prompts = [
        Prompt(
            key=sample.id,
            sample=sample,
            frames=reader.frames(sample.video),
            fps=reader.frames_record(sample.video).fps,
            image=reader.frames(sample.image)[0] if sample.image else None,
        )
        for sample in samples
    ]
    seeds = [derived_seed(seed, 0, sample.id, "evaluation") for sample in samples]

    def ask(n: int, temperature: float) -> list[Sampled]:
        return sampler.sample(
            policy,
            prompts,
            n=n,
            seeds=seeds,
            temperature=temperature,
            max_completion_length=settings.max_completion_length,
        )

    sampled = ask(settings.num_generations, 1.0)
    greedy: list[Sampled] | list[None] = ask(1, 0.0) if settings.greedy else [None] * len(samples)
    return [_answered(sample, several, one) for sample, several, one in zip(samples, sampled, greedy, strict=True)]


def _answered(sample: Sample, sampled: Sampled, greedy: Sampled | None) -> Answered:
    return Answered(
        sample_id=sample.id,
        video=sample.video,
        level=sample.split,
        kind=sample.metadata.get("kind", sample.task),
        task=sample.task,
        question=sample.question,
        answer=sample.answer,
        sampled=tuple(scored(sample, response.text) for response in sampled.responses),
        greedy=scored(sample, greedy.responses[0].text) if greedy else None,
    )


def scored(sample: Sample, text: str) -> Answer:
    """A text with its accuracy (IoU for temporal grounding) and whether an answer could be read from it."""
    rewards, _ = score(sample, text, ("accuracy",))
    return Answer(text=text, reward=rewards["accuracy"], parsed=is_parsed(sample, text))
