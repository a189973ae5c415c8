"""Ways to train on one group: packed, and as one row per response. All do the same first optimizer step of a round.

At a round's first step pi_theta is pi_old, so the old log-probs are the new ones, detached, as in TRL; no reference. The
loss is Reg-GRPO's, by the project's own function.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from components.training.forward import PackedPolicy
from components.training.loss import group_losses
from components.training.objectives import OBJECTIVES
from components.training.objectives.inputs import LossInputs
from components.training.packing import batch, pack
from tests.benchmarks.race.groups import MadeGroup, is_informative

if TYPE_CHECKING:
    from torch import Tensor

# `TrainingSettings` as far as the loss and the forward pass read it, without pydantic; the values are its defaults.
SETTINGS: Any = SimpleNamespace(
    declared=OBJECTIVES["reg_grpo"], std_floor=1.0, beta=0.0, kl_estimator="k3", lm_head_chunk=512
)

Step = Callable[[], "Tensor"]  # forward and backward; returns the responses' log-probs (G, T), detached


def loss_inputs(group: MadeGroup, logprobs: Tensor, settings: Any = SETTINGS) -> LossInputs:
    """What the loss takes of a group whose log-probs are (1, G, T)."""
    device = logprobs.device
    responses = torch.ones(logprobs.shape[:2], dtype=torch.bool, device=device)
    return LossInputs(
        logprobs=logprobs,
        old_logprobs=logprobs.detach(),
        ref_logprobs=None,
        tokens=torch.ones_like(logprobs, dtype=torch.bool),
        responses=responses,
        rewards=group.rewards.to(device),
        advantages=group.advantages(settings.std_floor).to(device),
        informative=is_informative(group).to(device),
        tokens_per_group=float(logprobs[0].numel()),
    )


def packed(model: Any, group: MadeGroup, settings: Any = SETTINGS) -> Step:
    """The trainer's own way: the prompt once, then the responses, in one sequence."""
    policy = PackedPolicy(model, (), settings.lm_head_chunk)
    sequence = batch([pack(group.prompt, group.responses.tolist())])

    def step() -> Tensor:
        logprobs, _ = policy(sequence, group.features)
        group_losses(loss_inputs(group, logprobs, settings), settings).loss.sum().backward()
        return logprobs.detach()[0]

    return step


def rows_in_a_batch(model: Any, group: MadeGroup, settings: Any = SETTINGS) -> Step:
    """One row a response, all in one forward pass, as Video-R1 and TRL do it; logits only where they are needed."""

    def step() -> Tensor:
        logprobs = _row_logprobs(model, group, group.responses)[None]
        group_losses(loss_inputs(group, logprobs, settings), settings).loss.sum().backward()
        return logprobs.detach()[0]

    return step


def rows_one_by_one(model: Any, group: MadeGroup, settings: Any = SETTINGS) -> Step:
    """One row a response, forward and backward one after the other: slower, with the memory of one row.

    A group's loss needs all its log-ratios before any row can go backward. Here they are known, 0 at a round's first
    step, so rows are handed the loss's gradient and save the forward pass that would find it.
    """
    zeros = torch.zeros(1, *group.responses.shape, requires_grad=True)
    (gradient,) = torch.autograd.grad(group_losses(loss_inputs(group, zeros, settings), settings).loss.sum(), zeros)

    def step() -> Tensor:
        found = []
        for index in range(len(group.responses)):
            logprobs = _row_logprobs(model, group, group.responses[index : index + 1])
            logprobs.backward(gradient[0, index : index + 1])
            found.append(logprobs.detach())
        return torch.cat(found)

    return step


def _row_logprobs(model: Any, group: MadeGroup, responses: Tensor) -> Tensor:
    """The model's own forward pass over rows of prompt and response: log-probs of the responses' tokens, (rows, T)."""
    rows, length = responses.shape
    prompt = group.prompt
    ids = torch.cat((prompt.input_ids.expand(rows, -1), responses), 1)
    after = (prompt.next_position + torch.arange(length)).expand(3, -1)
    embeddings = model.get_input_embeddings()(ids)
    pads = (ids == model.config.video_token_id)[..., None]
    logits = model(
        inputs_embeds=embeddings.masked_scatter(pads, group.features.expand(rows, -1, -1)),
        attention_mask=torch.ones_like(ids),
        position_ids=torch.cat((prompt.position_ids, after), 1)[:, None].expand(-1, rows, -1),
        logits_to_keep=length + 1,
        use_cache=False,
    ).logits[:, :-1]
    return logits.float().log_softmax(-1).gather(-1, responses[..., None])[..., 0]
