"""Made-up groups: a prompt with a video in it, and responses of equal length, which is how rows lose least to padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from components.training.advantages import informative, normalised
from tests.benchmarks.race.shapes import ModelShape, Point

if TYPE_CHECKING:
    from torch import Tensor

PATCH = (4, 4)  # tokens of a temporal patch, along height and width
VIDEO_SHARE = 0.75  # of the prompt
SPECIAL = 4  # the vocabulary's last ids: end of vision, start of vision, image pad, video pad


@dataclass(frozen=True, eq=False)
class Prompt:
    """What `packing.pack` takes of a prompt of L tokens."""

    input_ids: Tensor  # (L,)
    position_ids: Tensor  # (3, L): temporal, height, width

    @property
    def next_position(self) -> int:
        """The position of the first response token."""
        return int(self.position_ids.max()) + 1


@dataclass(frozen=True, eq=False)
class MadeGroup:
    """A group of G responses of T tokens whose prompt has V video tokens."""

    prompt: Prompt
    features: Tensor  # (V, hidden): what the frozen vision tower would have made of the frames
    responses: Tensor  # (G, T)
    rewards: Tensor  # (1, G)

    def advantages(self, std_floor: float) -> Tensor:
        """Rewards normalised within the group, (1, G)."""
        return normalised(self.rewards, torch.ones_like(self.rewards, dtype=torch.bool), std_floor)


def video_token(shape: ModelShape) -> int:
    """The id of a video's pads."""
    return shape.vocabulary - 1


def positions(before: int, patches: int, after: int) -> Tensor:
    """M-RoPE positions (arXiv 2502.13923, section 2.1.2) of text, a video of `patches` temporal patches, and text."""
    height, width = PATCH
    text = torch.arange(before).expand(3, -1)
    video = before + torch.cartesian_prod(torch.arange(patches), torch.arange(height), torch.arange(width)).T
    end = before + max(patches, height, width)
    return torch.cat((text, video, end + torch.arange(after).expand(3, -1)), 1)


def made_group(shape: ModelShape, point: Point, seed: int = 0) -> MadeGroup:
    """The point's group. `seed` decides ids, features and rewards."""
    generator = torch.Generator().manual_seed(seed)
    size = PATCH[0] * PATCH[1]
    patches = max(1, int(VIDEO_SHARE * point.prompt) // size)
    before = max(1, (point.prompt - patches * size) // 4)
    after = point.prompt - before - patches * size
    if after < 1:
        raise ValueError(f"a prompt of {point.prompt} tokens has no room for text around a video of {size}")
    text = shape.vocabulary - SPECIAL
    ids = torch.randint(text, (point.prompt,), generator=generator)
    ids[before : before + patches * size] = video_token(shape)
    rewards = torch.randint(3, (1, point.generations), generator=generator).float()
    rewards[0, :2] = torch.tensor([0.0, 2.0])  # never all equal
    return MadeGroup(
        Prompt(ids, positions(before, patches, after)),
        features=torch.randn(patches * size, shape.hidden, generator=generator) * 0.02,  # as large as embeddings
        responses=torch.randint(text, (point.generations, point.response), generator=generator),
        rewards=rewards,
    )


def is_informative(group: MadeGroup) -> Tensor:
    """Whether the rewards differ, (1,)."""
    return informative(group.rewards, torch.ones_like(group.rewards, dtype=torch.bool))
