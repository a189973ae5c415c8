"""The format reward: 1 if the whole response has the form that the prompt asks for, else 0."""

from __future__ import annotations

from components.shared.prompts import is_well_formed
from components.shared.rewards.answers import read_glue, strip_final_glue
from components.shared.schemas import Sample


def format_reward(sample: Sample, text: str) -> float:
    """1 for a <think> block and an <answer> block and nothing else; grounded_qa needs a <glue> block after them."""
    if sample.task != "grounded_qa":
        return float(is_well_formed(text))
    body = strip_final_glue(text)
    return float(body != text and read_glue(body) is None and is_well_formed(body))
