"""How many tokens a prompt has, without loading the model's processor: text is tokenised, vision tokens are arithmetic.

The processor would bring PyTorch along, some ten seconds for what takes milliseconds. tests/ingest compares the counts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from components.ingest.errors import IngestError
from components.shared.prompts import GIVEN_ANSWER, HINT, prompt_text
from components.shared.schemas import TRAIN_SPLIT, Sample

VIDEO_PAD, IMAGE_PAD = "<|video_pad|>", "<|image_pad|>"
_BATCH = 1024


@dataclass(frozen=True)
class VisionGrid:
    """How the policy's vision tower cuts frames: `factor` pixels a side make one token, `temporal` frames share it."""

    factor: int
    temporal: int

    def tokens(self, frames: int, frame_size: int) -> int:
        """Tokens of `frames` square frames of `frame_size` pixels, which is a multiple of `factor`."""
        return -(-frames // self.temporal) * (frame_size // self.factor) ** 2


def vision_grid(policy: Path) -> VisionGrid:
    """The grid that a policy's config.json tells. Raises IngestError if it tells none."""
    vision = json.loads((policy / "config.json").read_text()).get("vision_config", {})
    try:
        return VisionGrid(vision["patch_size"] * vision["spatial_merge_size"], vision["temporal_patch_size"])
    except KeyError as error:
        raise IngestError(
            f"ingest.model: config.json has no vision_config.{error.args[0]}; is it a Qwen2-VL or Qwen2.5-VL?"
        ) from None


class PromptCounter:
    """Counts the tokens of a policy's prompts."""

    def __init__(self, policy: Path) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(policy / "tokenizer.json"))
        except Exception as error:  # the library raises a bare Exception
            raise IngestError(f"ingest.model: tokenizer.json cannot be read ({error})") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._grid = vision_grid(policy)
        # as transformers renders chat templates; sandboxed, for the template comes with the model
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = json.dumps
        try:
            self._template = environment.from_string(_chat_template(policy))
        except TemplateError as error:
            raise IngestError(f"ingest.model: its chat template cannot be read ({error})") from error

    def check_frame_size(self, frame_size: int) -> None:
        """Raise IngestError unless the model can take frames of `frame_size` pixels a side as they are."""
        if frame_size % self._grid.factor:
            raise IngestError(
                f"ingest.frame_size: {frame_size} is not a multiple of {self._grid.factor}, as the model needs"
            )

    def apply_chat_template(
        self, messages: list[dict[str, Any]], *, tokenize: Literal[False], add_generation_prompt: bool
    ) -> str:
        """A processor's method of that name, as far as `prompt_text` needs it."""
        try:
            return self._template.render(messages=messages, add_generation_prompt=add_generation_prompt)
        except TemplateError as error:
            raise IngestError(f"ingest.model: its chat template cannot be used ({error})") from error

    def _text_tokens(self, texts: Sequence[str]) -> list[int]:
        batches = (texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH))
        return [len(encoding) for batch in batches for encoding in self._tokenizer.encode_batch_fast(list(batch))]

    def prompt_tokens(self, samples: Sequence[Sample], frames: Sequence[int], frame_size: int) -> list[int]:
        """Tokens of each sample's plain prompt, its video having as many frames as `frames` says."""
        text = self._text_tokens([prompt_text(self, sample) for sample in samples])
        image = self._grid.tokens(1, frame_size) - 1  # one pad token stands in the text already
        return [
            count + self._grid.tokens(length, frame_size) - 1 + (image if sample.image else 0)
            for count, length, sample in zip(text, frames, samples, strict=True)
        ]

    def longest_prompt_tokens(
        self, samples: Sequence[Sample], frames: Sequence[int], frame_size: int, max_hint_tokens: int
    ) -> list[int]:
        """Tokens of the longest prompt that each sample may get.

        A training prompt may be augmented: by a hint of `max_hint_tokens`, or by the answer it is asked to explain.
        """
        plain = self.prompt_tokens(samples, frames, frame_size)
        hint = max_hint_tokens + self._text_tokens(["\n" + HINT.format(hint="")])[0]
        answers = sorted({sample.answer for sample in samples})
        tokens = self._text_tokens(["\n" + GIVEN_ANSWER.format(answer=answer) for answer in answers])
        given = dict(zip(answers, tokens, strict=True))
        return [
            count + (max(hint, given[sample.answer]) if sample.split == TRAIN_SPLIT else 0)
            for count, sample in zip(plain, samples, strict=True)
        ]


def _chat_template(policy: Path) -> str:
    """The processor's chat template, from where transformers looks for it, in its order."""
    if (path := policy / "chat_template.jinja").is_file():
        return path.read_text()
    for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        path = policy / name
        found = json.loads(path.read_text()).get("chat_template") if path.is_file() else None
        if isinstance(found, str):
            return found
    raise IngestError(
        "ingest.model: no chat template in chat_template.jinja, chat_template.json or tokenizer_config.json"
    )
