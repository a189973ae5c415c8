"""A sample's prompt, the same for sampler, trainer and evaluation, and the reading of answers back out of text."""

from __future__ import annotations

import re
from typing import Any

from components.shared.prompt_templates import template_of
from components.shared.schemas import Sample

HINT = "Hint: {hint}"
GIVEN_ANSWER = "The answer is {answer}. Explain it."

BANNED_TOKENS = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")

_ANSWER = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL)
_THINK = re.compile(r"<think>\s*(.*?)\s*</think>", re.DOTALL)
_FORMAT = re.compile(
    r"\s*<think>(?:(?!</?think>|</?answer>).)*</think>\s*<answer>(?:(?!</?think>|</?answer>).)*</answer>\s*", re.DOTALL
)


def option_letter(index: int) -> str:
    """0 -> "A", 1 -> "B", and so on."""
    return chr(ord("A") + index)


def question_text(sample: Sample, hint: str = "", given_answer: str = "") -> str:
    """The text of the user's turn by the sample's template, and below it a hint or the ground-truth answer, if given.

    Raises ValueError if the template has no words for the sample's task.
    """
    lines = [template_of(sample).text(sample)]
    if hint:
        lines.append(HINT.format(hint=hint))
    if given_answer:
        lines.append(GIVEN_ANSWER.format(answer=given_answer))
    return "\n".join(lines)


def messages(sample: Sample, hint: str = "", given_answer: str = "") -> list[dict[str, Any]]:
    """The chat messages of a sample: one user turn of the video, the image, if any, and the text, in the template's order."""
    media = [{"type": "video"}, {"type": "image"}] if sample.image else [{"type": "video"}]
    text = [{"type": "text", "text": question_text(sample, hint, given_answer)}]
    return [{"role": "user", "content": text + media if template_of(sample).text_first else media + text}]


def prompt_text(processor: Any, sample: Sample, hint: str = "", given_answer: str = "") -> str:
    """The prompt as text, ready for generation, with one unexpanded pad token a video. `processor` is the policy's own."""
    return processor.apply_chat_template(
        messages(sample, hint, given_answer), tokenize=False, add_generation_prompt=True
    )


def is_well_formed(text: str) -> bool:
    """Whether the whole response is one <think> block and one <answer> block, with only white space around and between."""
    return _FORMAT.fullmatch(text) is not None


def extract_answer(text: str) -> str | None:
    """The text of the last <answer> block, stripped; None if there is none."""
    found = _ANSWER.findall(text)
    return found[-1] if found else None


def extract_reasoning(text: str) -> str | None:
    """The text of the first <think> block, stripped; None if there is none."""
    found = _THINK.search(text)
    return found.group(1) if found else None
