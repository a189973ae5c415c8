"""Prompt lengths are those of the policy's own processor, without loading it."""

from __future__ import annotations

import numpy as np
import pytest

from components.ingest.base_model import TINY_WEIGHTS
from components.ingest.errors import IngestError
from components.ingest.prompt_length import PromptCounter, VisionGrid
from components.shared.generation import Prompt
from components.shared.policy_inputs import load_processor, prompt_token_ids
from components.shared.schemas import Sample

CHOICE = Sample(
    id="a", video="a.mp4", question="Which colour is the <answer>circle</answer>?\nLook — twice.", answer="B",
    options=("red", "light blue"), task="multiple_choice",
)  # fmt: skip
NUMBER = Sample(id="b", video="b.mp4", question="How many?", answer="3", task="numerical", image="b.png", split="L1")


def test_counts_are_those_of_the_processor():
    processor = load_processor(TINY_WEIGHTS)
    counts = PromptCounter(TINY_WEIGHTS).prompt_tokens([CHOICE, NUMBER], [8, 4], 56)
    image = np.zeros((56, 56, 3), np.uint8)
    prompts = [
        Prompt(key="a", sample=CHOICE, frames=np.zeros((8, 56, 56, 3), np.uint8), fps=1.0),
        Prompt(key="b", sample=NUMBER, frames=np.zeros((4, 56, 56, 3), np.uint8), fps=1.0, image=image),
    ]
    assert counts == [len(prompt_token_ids(processor, prompt)) for prompt in prompts]


def test_a_hinted_prompt_fits_what_is_kept_free():
    processor = load_processor(TINY_WEIGHTS)
    hint = "look at the circle. not red. it is at the top left and moves to the right."
    hint_tokens = len(processor.tokenizer(hint)["input_ids"])
    longest = PromptCounter(TINY_WEIGHTS).longest_prompt_tokens([CHOICE], [8], 56, hint_tokens)[0]
    frames = np.zeros((8, 56, 56, 3), np.uint8)
    for augmented in ({"hint": hint}, {"given_answer": "B"}):
        prompt = Prompt(key="a", sample=CHOICE, frames=frames, fps=1.0, **augmented)
        assert len(prompt_token_ids(processor, prompt)) <= longest
    # a margin of at most the tokens that the template's end and the hint's begin may share
    assert longest - len(prompt_token_ids(processor, Prompt("a", CHOICE, frames, 1.0, hint=hint))) <= 3


def test_room_for_a_hint_is_kept_in_training_prompts_only(policy_folder):
    counter = PromptCounter(policy_folder)
    held_out = CHOICE.model_copy(update={"split": "L1"})
    plain = counter.prompt_tokens([CHOICE, held_out], [8, 8], 56)
    longest = counter.longest_prompt_tokens([CHOICE, held_out], [8, 8], 56, 100)
    # one token a byte: the hint's line is "\nHint: " and 100 tokens
    assert [long - short for long, short in zip(longest, plain, strict=True)] == [107, 0]


def test_a_long_answer_to_be_explained_counts_as_well(policy_folder):
    sample = Sample(id="c", video="a.mp4", question="What happens?", answer="x" * 200, task="free_form")
    counter = PromptCounter(policy_folder)
    added = counter.longest_prompt_tokens([sample], [2], 28, 0)[0] - counter.prompt_tokens([sample], [2], 28)[0]
    assert added == len("\nThe answer is . Explain it.") + 200


@pytest.mark.parametrize(
    ("frames", "size", "tokens"),
    [(16, 252, 648), (8, 56, 16), (2, 28, 1), (5, 56, 12), (1, 252, 81)],
)
def test_vision_tokens(frames, size, tokens):
    # DeepVideo-R1: 16 frames of 252 x 252 are 8 pairs of 81 tokens
    assert VisionGrid(factor=28, temporal=2).tokens(frames, size) == tokens


def test_a_policy_without_a_chat_template_or_tokenizer_is_refused(policy_folder):
    (policy_folder / "chat_template.jinja").unlink()
    with pytest.raises(IngestError, match="no chat template in chat_template.jinja"):
        PromptCounter(policy_folder)
    (policy_folder / "tokenizer.json").write_text("{}")
    with pytest.raises(IngestError, match="tokenizer.json cannot be read"):
        PromptCounter(policy_folder)


def test_a_chat_template_cannot_reach_outside_its_sandbox(policy_folder):
    (policy_folder / "chat_template.jinja").write_text("{{ messages.__class__.__mro__ }}")
    with pytest.raises(IngestError, match="chat template cannot be used.*unsafe"):
        PromptCounter(policy_folder).prompt_tokens([CHOICE], [8], 56)
