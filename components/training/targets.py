"""The targets of supervised learning: samples of the train split become groups of one given response."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from components.shared.dataset import DatasetReader
from components.shared.policy_inputs import prompt_token_ids
from components.shared.schemas import TRAIN_SPLIT, Group, Response, Sample
from components.training.prepare import group_prompt
from components.training.warmup_settings import Target


@dataclass
class Targets:
    """What there is to learn, and what was left out."""

    groups: list[Group] = field(default_factory=list)  # in the samples' order
    responses: int = 0  # groups whose target is the sample's reference response
    without: int = 0  # samples that have none, where answers do not stand in
    too_long: int = 0


def target_text(sample: Sample, target: Target) -> str:
    """What the model is to say; empty if the sample has no reference response and its answer may not stand in.

    An answer alone keeps the prompt's format, with nothing thought: without the <think> block, the format reward of the
    rounds that follow would be 0 for all that was learnt here.
    """
    if target != "answer" and sample.response:
        return sample.response
    if target == "response":
        return ""
    spans = " and ".join(f"{start:g} to {end:g}" for start, end in sample.spans)
    glue = f"<glue>{spans}</glue>" if sample.task == "grounded_qa" else ""
    return f"<think></think><answer>{sample.answer}</answer>{glue}"


def make_targets(
    reader: DatasetReader, processor: Any, target: Target, max_completion_length: int, advance: Callable[..., None]
) -> Targets:
    """A group for each sample of the train split that has a target of at most `max_completion_length` tokens with EOS.

    Prompts are those of the rounds, un-augmented. `advance` is told of every sample.
    """
    made = Targets()
    for sample in reader.samples(TRAIN_SPLIT):
        advance()
        text = target_text(sample, target)
        ids = (*processor.tokenizer(text)["input_ids"], processor.tokenizer.eos_token_id)
        if not text:
            made.without += 1
        elif len(ids) > max_completion_length:
            made.too_long += 1
        else:
            made.responses += text == sample.response
            made.groups.append(_group(sample, text, ids, reader, processor))
    return made


def _group(sample: Sample, text: str, ids: tuple[int, ...], reader: DatasetReader, processor: Any) -> Group:
    given = Response(
        index=0, seed=0, token_ids=ids, text=text, logprobs=(0.0,) * len(ids), finish_reason="stop", reward=1.0
    )  # nobody sampled it: there are no log-probs, and the reward counts for nothing
    group = Group(sample_id=sample.id, round=0, prompt_token_ids=(), responses=(given,))
    return group.model_copy(update={"prompt_token_ids": prompt_token_ids(processor, group_prompt(group, reader))})
