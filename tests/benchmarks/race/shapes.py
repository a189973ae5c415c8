"""The sizes of models and of groups that are raced."""

from __future__ import annotations

from typing import NamedTuple


class ModelShape(NamedTuple):
    """A Qwen2.5-VL's language model. Heads have hidden / heads channels."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    tied: bool  # whether the embedding is the head's weight too

    @property
    def head_dim(self) -> int:
        """Channels of a head."""
        return self.hidden // self.heads


class Point(NamedTuple):
    """One group: tokens of the prompt, tokens of each response, and how many responses."""

    prompt: int
    response: int
    generations: int

    @property
    def name(self) -> str:
        """`prompt/response/generations`."""
        return f"{self.prompt}/{self.response}/{self.generations}"


# Qwen2.5-VL-3B at half its width: heads of 128, eight to a key-value head, embedding and head one weight. Only the MLP is
# narrower, 2 widths for 5.4: rows in a batch must fit in 24 GiB at the point that counts, and all points in 40 minutes.
RACE = ModelShape(1024, layers=8, heads=8, kv_heads=1, intermediate=2048, vocabulary=32_000, tied=True)
QUICK = ModelShape(64, layers=2, heads=2, kv_heads=1, intermediate=128, vocabulary=512, tied=True)

# From the published config.json of Qwen2.5-VL-3B-Instruct and Qwen2.5-VL-7B-Instruct.
QWEN_3B = ModelShape(2048, layers=36, heads=16, kv_heads=2, intermediate=11_008, vocabulary=151_936, tied=True)
QWEN_7B = ModelShape(3584, layers=28, heads=28, kv_heads=4, intermediate=18_944, vocabulary=152_064, tied=False)
