"""The supervised arm: cross-entropy on Moving Shapes' own right responses to the questions that the others train on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from components.ingest.moving_shapes.generate import MovingShapesSettings, plan
from components.ingest.moving_shapes.questions import reasoning, response
from components.shared.context import generator
from components.shared.dataset import DatasetReader
from components.shared.generation import Prompt
from components.shared.policy_inputs import encode_prompt
from components.shared.schemas import TRAIN_SPLIT
from components.training.advantages import masked_mean
from components.training.packing import batch, pack
from tests.benchmarks.study.trainer import ALONE, Trainer

END = "<|im_end|>"


def right_responses(data_seed: int) -> dict[str, str]:
    """Sample id -> a right response, for the training questions of that seed."""
    return {
        sample.id: response(question, question.right, reasoning(question, question.right))
        for video in plan(MovingShapesSettings(seed=data_seed))
        for sample, question in zip(video.samples, video.questions, strict=True)
        if sample.split == TRAIN_SPLIT
    }


def fine_tune(
    trainer: Trainer, reader: DatasetReader, demonstrations: Mapping[str, str], steps: int, size: int
) -> list[float]:
    """`steps` optimizer steps of `size` demonstrations each, epoch after epoch in a seeded order.

    The loss is the mean over responses of minus the mean log-prob of a response's tokens, the end token included.
    Returns every step's.
    """
    order, losses = _order(sorted(demonstrations), trainer.seed), list[float]()
    for _ in range(steps):
        losses.append(0.0)
        chosen = [next(order) for _ in range(size)]
        for start in range(0, size, trainer.settings.micro_batch_groups):
            part = chosen[start : start + trainer.settings.micro_batch_groups]
            inputs = [encode_prompt(trainer.processor, _prompt(name, reader)) for name in part]
            ids = [trainer.processor.tokenizer(demonstrations[name] + END)["input_ids"] for name in part]
            packed = batch([pack(prompt, [tokens]) for prompt, tokens in zip(inputs, ids, strict=True)])
            features = torch.cat([trainer.policy.visual_features(prompt) for prompt in inputs])
            logprobs, _ = trainer.policy(packed.to(ALONE.device), features)
            loss = -masked_mean(logprobs, packed.tokens).sum() / size
            trainer.engine.backward(loss)
            losses[-1] += loss.item()
        trainer.engine.step()
    return losses


def _order(names: Sequence[str], seed: int) -> Iterator[str]:
    epoch = 0
    while True:
        yield from (names[index] for index in generator(seed, epoch, "", "sft order").permutation(len(names)))
        epoch += 1


def _prompt(name: str, reader: DatasetReader) -> Prompt:
    sample = reader.sample(name)
    return Prompt(name, sample, reader.frames(sample.video), reader.frames_record(sample.video).fps)
