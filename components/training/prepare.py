"""A round's groups as tensors: prompts encoded and checked, responses packed, rewards normalised, frames seen once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from components.shared.dataset import DatasetReader
from components.shared.generation import Prompt
from components.shared.policy_inputs import PromptInputs, banned_token_ids, encode_prompt
from components.shared.schemas import Group
from components.training.advantages import informative, normalised
from components.training.forward import PackedPolicy
from components.training.minibatches import MicroBatch
from components.training.packing import PackedBatch, PackedGroup, batch, pack


@dataclass(frozen=True, eq=False)
class Prepared:
    """One forward pass: some groups and all that the loss and the metrics need. Shapes as in LossInputs; on the CPU."""

    packed: PackedBatch
    features: Float[Tensor, "V hidden"]
    weights: Float[Tensor, " groups"]  # 0 for a group that only keeps the ranks in step
    rewards: Float[Tensor, "groups responses"]
    responses: Bool[Tensor, "groups responses"]  # which take part
    truncated: Bool[Tensor, "groups responses"]
    advantages: Float[Tensor, "groups responses"]
    informative: Bool[Tensor, " groups"]
    sampler_logprobs: Float[Tensor, "groups responses tokens"]
    packed_tokens: int  # without padding and without groups of weight 0

    def model_inputs(self, device: torch.device) -> tuple[PackedBatch, Tensor]:
        """What PackedPolicy's forward takes, on `device`."""
        return self.packed.to(device), self.features.to(device)


def group_prompt(group: Group, reader: DatasetReader) -> Prompt:
    """What the group's responses were sampled under: its hint in the text, its noise or masks in the frames."""
    sample = reader.sample(group.sample_id)
    return Prompt(
        key=sample.id,
        sample=sample,
        frames=reader.augmented_frames(sample, group.augmentation),
        fps=reader.frames_record(sample.video).fps,
        hint=group.augmentation.hint,
        image=reader.frames(sample.image)[0] if sample.image else None,
    )


class Preparer:
    """Makes `Prepared` micro-batches; a group's features are computed once, also if it is dealt out twice."""

    def __init__(
        self,
        groups: Sequence[Group],
        reader: DatasetReader,
        processor: Any,
        policy: PackedPolicy,
        *,
        std_floor: float,
        mask_truncated: bool,
    ) -> None:
        self.groups, self.reader, self.processor, self.policy = groups, reader, processor, policy
        self.std_floor, self.mask_truncated = std_floor, mask_truncated
        self.banned = set(banned_token_ids(processor))

    def encode(self, index: int) -> PromptInputs:
        """One group's prompt. Raises ValueError, naming the sample, on ids that cannot come from our sampler."""
        group = self.groups[index]
        inputs = encode_prompt(self.processor, group_prompt(group, self.reader))
        ids = tuple(inputs.input_ids.tolist())
        if ids != group.prompt_token_ids:
            raise ValueError(
                f"sample {group.sample_id}: the trainer's prompt has {len(ids)} token ids, the sampler's"
                f" {len(group.prompt_token_ids)}, and they differ: was another processor, hint or frame size used?"
            )
        for response in group.responses:
            if found := self.banned.intersection(response.token_ids):
                raise ValueError(
                    f"sample {group.sample_id}: responses[{response.index}].token_ids has {sorted(found)}, which are never"
                    " sampled: sample the group again with this policy's processor"
                )
        return inputs

    def prepare(self, micro: MicroBatch, advance: Callable[..., None]) -> Prepared:
        """One micro-batch. `advance` is told of every group."""
        packs: list[PackedGroup] = []
        features = []
        for index in micro.groups:
            inputs = self.encode(index)
            packs.append(pack(inputs, [response.token_ids for response in self.groups[index].responses]))
            features.append(self.policy.visual_features(inputs))
            advance()
        chosen = [self.groups[index] for index in micro.groups]
        packed = batch(packs)
        weights = torch.tensor(micro.weights)
        rewards = _rows([[response.reward for response in group.responses] for group in chosen], torch.float64)
        truncated = _rows(
            [[response.finish_reason == "length" for response in group.responses] for group in chosen], torch.bool
        )
        responses = packed.tokens.any(-1)
        if self.mask_truncated:
            responses = responses & ~truncated
        sampler = torch.zeros(packed.tokens.shape)
        sampler[packed.tokens] = torch.tensor(
            [value for group in chosen for response in group.responses for value in response.logprobs]
        )
        return Prepared(
            packed=packed,
            features=torch.cat(features),
            weights=weights,
            rewards=rewards.float(),
            responses=responses,
            truncated=truncated,
            advantages=normalised(rewards, responses, self.std_floor).float(),
            informative=informative(rewards, responses),
            sampler_logprobs=sampler,
            packed_tokens=sum(len(one.input_ids) for one, weight in zip(packs, micro.weights, strict=True) if weight),
        )


def _rows(values: list[list[Any]], dtype: torch.dtype) -> Tensor:
    return pad_sequence([torch.tensor(row, dtype=dtype) for row in values], batch_first=True)
