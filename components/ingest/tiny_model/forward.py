"""The tiny model's forward for many videos at once: the numbers that transformers gives, without its loop per window.

Shapes: B videos, T = 4 temporal steps of two frames, P = 16 patches a step, V = 16 video tokens, R rows, L tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from components.ingest.tiny_model.build import FRAME_SIZE

PATCH, MERGE, TEMPORAL = 14, 2, 2
GRID = FRAME_SIZE // PATCH
SECONDS_A_STEP = 2  # and one position a second (tokens_per_second in build.py)
MEAN = torch.tensor((0.48145466, 0.4578275, 0.40821073))
STD = torch.tensor((0.26862954, 0.26130258, 0.27577711))


def patches(frames: np.ndarray) -> Tensor:
    """uint8 (B, 2T, 56, 56, 3) to normalised patches (B, T, P, 1176), in the video processor's order."""
    count, length = frames.shape[:2]
    pixels = (torch.from_numpy(frames).float() / 255 - MEAN) / STD
    side = GRID // MERGE
    pixels = pixels.view(count, length // TEMPORAL, TEMPORAL, side, MERGE, PATCH, side, MERGE, PATCH, 3)
    pixels = pixels.permute(0, 1, 3, 6, 4, 7, 9, 2, 5, 8)
    return pixels.reshape(count, length // TEMPORAL, GRID * GRID, 3 * TEMPORAL * PATCH * PATCH)


def _rotate_half(x: Tensor) -> Tensor:
    one, two = x.chunk(2, -1)
    return torch.cat((-two, one), -1)


def video_features(visual: Any, patches_BTPD: Tensor) -> Tensor:
    """The vision tower's tokens (B, V, hidden). Every temporal step of a 56 x 56 video is one attention window."""
    count, steps, number, _ = patches_BTPD.shape
    x = F.linear(patches_BTPD, visual.patch_embed.proj.weight.flatten(1)).flatten(0, 1)
    side = torch.arange(GRID // MERGE) * MERGE
    inner = torch.arange(MERGE)
    rows = (side[:, None, None, None] + inner[:, None]).expand(-1, GRID // MERGE, -1, MERGE).flatten()
    columns = (side[:, None, None] + inner).expand(GRID // MERGE, -1, MERGE, -1).flatten()
    cos, sin = visual.rotary_pos_emb(x, torch.stack((rows, columns), -1))
    for block in visual.blocks:
        attention = block.attn
        heads = attention.num_heads
        q, k, v = attention.qkv(block.norm1(x)).view(count * steps, number, 3, heads, -1).permute(2, 0, 3, 1, 4)
        q, k = (t * cos + _rotate_half(t) * sin for t in (q, k))
        mixed = F.scaled_dot_product_attention(q, k, v, scale=attention.scaling)
        x = x + attention.proj(mixed.transpose(1, 2).reshape(count * steps, number, -1))
        x = x + block.mlp(block.norm2(x))
    return visual.merger(x.flatten(0, 1)).view(count, steps * number // MERGE**2, -1)


def positions(before: int, length: int) -> Tensor:
    """M-RoPE positions (3, length) of a row with one 8-frame video of 8 seconds after `before` text tokens.

    After the video, the text goes on at the largest position + 1, as in vLLM and in `components.shared.policy_inputs`.
    """
    side, steps = GRID // MERGE, 4
    time = torch.arange(steps) * SECONDS_A_STEP
    video = torch.stack(torch.meshgrid(time, torch.arange(side), torch.arange(side), indexing="ij")).flatten(1) + before
    rest = torch.arange(length - before - video.shape[1]) + int(video.max()) + 1
    return torch.cat((torch.arange(before).expand(3, -1), video, rest.expand(3, -1)), 1)


def hidden_states(model: Any, ids_RL: Tensor, video_RVD: Tensor, before: int, positions_3RL: Tensor) -> Tensor:
    """The language model's last hidden states (R, L, hidden) for right-padded rows with the video at `before`."""
    embedded = model.model.language_model.embed_tokens(ids_RL)
    embedded = torch.cat((embedded[:, :before], video_RVD, embedded[:, before + video_RVD.shape[1] :]), 1)
    return model.model.language_model(
        inputs_embeds=embedded, position_ids=positions_3RL, attention_mask={"full_attention": None}, use_cache=False
    ).last_hidden_state
