"""Whether a response can be read as an answer at all, right or wrong: RL raises accuracy by form alone, too."""

from __future__ import annotations

from components.shared.prompts import extract_answer
from components.shared.rewards.answers import normalise_text, read_letter, read_number, read_spans
from components.shared.schemas import Sample


def is_parsed(sample: Sample, text: str) -> bool:
    """Whether the response has an <answer> block of its task's form, which the accuracy reward can tell right or wrong.

    An option's letter where there are options, a number for numerical and regression, intervals that do not end before
    they start for temporal_grounding, any text for ocr, a word for free_form.
    """
    answer = extract_answer(text)
    if not answer:
        return False
    if sample.task == "temporal_grounding":
        spans = read_spans(answer)
        return bool(spans) and all(start <= end for start, end in spans)
    if sample.task in ("numerical", "regression"):
        return read_number(answer) is not None
    if sample.task == "ocr":
        return True
    if sample.options:
        return read_letter(answer, sample.options) is not None
    return bool(normalise_text(answer))
