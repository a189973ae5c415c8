"""TRL's own GRPOTrainer on one group: the nearest input it accepts is one row of token ids per response.

GRPOTrainer takes images but no videos, and no features made beforehand. So it gets a text-only Qwen2 of the same size with
the same weights and the same token ids (a video pad is then an ordinary token): the language model's work is the same,
and no vision tower adds to it. Nothing is generated: `GRPOTrainer.compute_loss`, which runs the model, and
`accelerator.backward` are called with the inputs dict that its generation would have left: prompt_ids, prompt_mask,
completion_ids, completion_mask, advantages. Its settings are its defaults but for what makes the work equal: beta 0 (which is
its default), loss_type "grpo", no recomputation of activations, fp32, all G rows in one forward pass. Old log-probs are left
out, for which it takes the new ones, detached, as at a round's first step.
"""

from __future__ import annotations

import os
from typing import Any

import torch

from tests.benchmarks.race.contestants import SETTINGS, Step
from tests.benchmarks.race.groups import MadeGroup

VERSION = "1.16"


def installed() -> str:
    """TRL's version, empty if it is not there."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("trl")
    except PackageNotFoundError:
        return ""


def trainer(model: Any, group: MadeGroup, folder: str) -> Any:
    """A GRPOTrainer around the model. It needs a tokenizer and a dataset to be made, and neither to score a batch."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # making a trainer sends telemetry otherwise
    from datasets import Dataset
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer

    rows, length = group.responses.shape
    words = Tokenizer(WordLevel({"<pad>": 0, "<eos>": 1, "x": 2}, unk_token="x"))
    config = GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=rows,
        num_generations=rows,
        max_completion_length=length,
        loss_type="grpo",
        beta=0.0,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to=[],
    )
    made = GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=config,
        train_dataset=Dataset.from_dict({"prompt": ["x"] * rows}),
        processing_class=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>"),
    )
    made.current_gradient_accumulation_steps = 1  # the training loop would set it
    made.model.train()
    return made


def batch(group: MadeGroup, settings: Any = SETTINGS) -> dict[str, torch.Tensor]:
    """The inputs dict of one micro-batch, as `_generate_and_score_completions` leaves it."""
    rows = len(group.responses)
    prompt_ids = group.prompt.input_ids.expand(rows, -1).contiguous()
    return {
        "prompt_ids": prompt_ids,
        "prompt_mask": torch.ones_like(prompt_ids),
        "completion_ids": group.responses,
        "completion_mask": torch.ones_like(group.responses),
        "advantages": group.advantages(settings.std_floor)[0],
        "num_items_in_batch": torch.tensor(group.responses.numel()),
    }


def trl_rows(model: Any, group: MadeGroup, folder: str, settings: Any = SETTINGS) -> Step:
    """GRPOTrainer's forward and backward over the group's rows. The log-probs it returns are those it computed."""
    made, inputs = trainer(model, group, folder), batch(group, settings)
    found: list[torch.Tensor] = []
    scored = made._get_per_token_logps_and_entropies

    def keep(*args: Any, **kwargs: Any) -> Any:
        result = scored(*args, **kwargs)
        found[:] = [result[0].detach()]
        return result

    made._get_per_token_logps_and_entropies = keep

    def step() -> torch.Tensor:
        made.accelerator.backward(made.compute_loss(made.model, inputs))
        return found.pop()

    return step
