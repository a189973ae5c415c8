"""Settings of the evaluation step."""

from __future__ import annotations

from components.shared.settings import StepSettings, setting


class EvaluationSettings(StepSettings):
    """What a policy is asked, and how its figures are made."""

    levels: tuple[str, ...] = setting(
        (), "Splits to evaluate, in any order; empty means every split other than train and tuning."
    )
    num_generations: int = setting(4, "Sampled answers to each question, at temperature 1.", unit="responses", ge=1)
    greedy: bool = setting(True, "Whether each question is also answered once at temperature 0.")
    questions_per_level: int = setting(
        0, "Questions asked in each level, the first ones of a seeded order; 0 asks all.", unit="questions", ge=0
    )
    max_completion_length: int = setting(512, "Longest answer.", unit="tokens", ge=1)
    bootstrap_resamples: int = setting(2000, "Draws of videos behind each interval.", unit="draws", ge=100)
    confidence: float = setting(0.95, "Confidence of each interval.", unit="share", gt=0.5, lt=1)
    chunk_questions: int = setting(
        64,
        "Questions that are answered and stored together: what an interrupted evaluation repeats at most.",
        unit="questions",
        ge=1,
    )
