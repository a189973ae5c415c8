"""The example rollouts of the report, with the frames as the policy saw them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.shared.dataset import DatasetReader
from components.shared.schemas import Augmentation

_FRAMES = 8  # shown of a video, evenly spaced
_GAP = 3  # pixels between two frames
_HEIGHT = 96  # pixels: larger frames are made smaller
_TEXT = 1200  # characters shown of a response


def examples(rollouts: Mapping[int, Sequence[Mapping[str, Any]]], reader: DatasetReader) -> list[dict[str, Any]]:
    """What the page shows: `rollouts` are the rollout step's examples by round.

    Raises ValueError if the frames cannot be made as the policy saw them.
    """
    return [_example(number, item, reader) for number, items in sorted(rollouts.items()) for item in items]


def _example(number: int, item: Mapping[str, Any], reader: DatasetReader) -> dict[str, Any]:
    augmentation = Augmentation.model_validate(item["augmentation"])
    if augmentation.kind in ("noise", "mask") and not augmentation.frames_digest:
        raise ValueError(
            f"rollout of round {number}, example {item['sample_id']}: augmentation.frames_digest is missing, so the frames"
            " cannot be shown as the policy saw them"
        )
    frames = reader.augmented_frames(reader.sample(item["sample_id"]), augmentation)
    shown = strip(frames)
    return {
        **item,
        "round": number,
        "augmentation": augmentation,
        "strip": _png(shown),
        "width": shown.shape[1],
        "height": shown.shape[0],
        "frames": len(frames),
        "shown": min(_FRAMES, len(frames)),
        "reward_names": sorted({name for rewards in item["rewards"] for name in rewards}),
        "responses": [
            {"text": _cut(text), "rewards": rewards}
            for text, rewards in zip(item["texts"], item["rewards"], strict=True)
        ],
    }


def strip(frames: np.ndarray) -> np.ndarray:
    """At most eight evenly spaced frames of (T, H, W, 3) uint8 side by side, uint8 (h, w, 4); gaps are transparent."""
    from PIL import Image

    chosen = np.linspace(0, len(frames) - 1, min(_FRAMES, len(frames))).round().astype(int)
    height = min(_HEIGHT, frames.shape[1])
    width = round(frames.shape[2] * height / frames.shape[1])
    columns: list[np.ndarray] = []
    for index in chosen:
        picture = Image.fromarray(frames[index])
        if picture.height != height:
            picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        columns += [np.asarray(picture.convert("RGBA")), np.zeros((height, _GAP, 4), np.uint8)]
    return np.concatenate(columns[:-1], axis=1)


def _png(pixels: np.ndarray) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[:_TEXT]} … ({len(text) - _TEXT} more characters)"
