"""Scenes to pixels. Many scenes are drawn at once: pretraining renders the sampled frames without an mp4 between."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from components.ingest.moving_shapes.scenes import COLORS, DIRECTIONS, SHAPES, SPEEDS, Scene

_SQRT3 = np.float32(3**0.5)


def _signed_distance(shape: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance to the outline in radii, negative inside; x and y are offsets from the centre in radii."""
    name = SHAPES[shape]
    if name == "circle":
        return np.sqrt(x * x + y * y) - 1
    if name == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.88
    if name == "triangle":
        return np.maximum(np.abs(x) * _SQRT3 / 2 - y / 2 - 0.5, y - 0.85) * 0.95
    arm = 0.34
    horizontal = np.maximum(np.abs(x) - 1, np.abs(y) - arm)
    vertical = np.maximum(np.abs(x) - arm, np.abs(y) - 1)
    return np.minimum(horizontal, vertical)


def _background(scenes: Sequence[Scene], size: int) -> np.ndarray:
    """float32 (scenes, size, size, 3)"""
    top, bottom = (np.array([getattr(s.look, side) for s in scenes], np.float32) for side in ("top", "bottom"))
    part = np.linspace(0, 1, size, dtype=np.float32)[None, :, None]
    column = top[:, None] * (1 - part) + bottom[:, None] * part
    return np.broadcast_to(column[:, :, None], (len(scenes), size, size, 3))


def draw_batch(scenes: Sequence[Scene], timestamps: np.ndarray, size: int) -> np.ndarray:
    """Draw all scenes at their timestamps.

    `timestamps`: seconds, (scenes, frames). Returns uint8 (scenes, frames, size, size, 3).
    """
    count, frames = timestamps.shape
    window = int(np.ceil(2 * size * max(s.look.radius for s in scenes))) + 3
    pad = window
    canvas = np.zeros((count, frames, size + 2 * pad, size + 2 * pad, 3), np.float32)
    inside = slice(pad, pad + size)
    canvas[:, :, inside, inside] = _background(scenes, size)[:, None]
    steps = np.arange(window)
    for slot in range(max(len(s.shapes) for s in scenes)):
        for shape in range(len(SHAPES)):
            rows = [i for i, s in enumerate(scenes) if len(s.shapes) > slot and s.shapes[slot].shape == SHAPES[shape]]
            if not rows:
                continue
            items = [scenes[i].shapes[slot] for i in rows]
            times = timestamps[rows]
            start = np.array([i.appears for i in items])[:, None]
            end = np.array([i.disappears for i in items])[:, None]
            moves = np.array([[SPEEDS[i.speed] * d for d in DIRECTIONS.get(i.direction, (0, 0))] for i in items])
            elapsed = (np.clip(times, start, end) - start)[..., None]
            centers = (np.array([[i.x, i.y] for i in items])[:, None] + elapsed * moves[:, None]) * size
            radius = np.array([scenes[i].look.radius * size for i in rows], np.float32)[:, None, None, None]
            corner = np.floor(centers - window / 2).astype(int)
            offset = (corner + 0.5 - centers).astype(np.float32)
            x = (offset[..., 0, None] + steps.astype(np.float32))[:, :, None, :] / radius
            y = (offset[..., 1, None] + steps.astype(np.float32))[:, :, :, None] / radius
            alpha = np.clip(0.5 - _signed_distance(shape, x, y) * radius, 0, 1)
            alpha = alpha * ((times >= start) & (times < end))[..., None, None]
            color = np.array(
                [scenes[i].look.shades[COLORS.index(scenes[i].shapes[slot].color)] for i in rows], np.float32
            )[:, None, None, None]
            which = (
                np.array(rows)[:, None, None, None],
                np.arange(frames)[None, :, None, None],
                (corner[..., 1, None] + steps + pad)[:, :, :, None],
                (corner[..., 0, None] + steps + pad)[:, :, None, :],
            )
            canvas[which] += (color - canvas[which]) * alpha[..., None]
    result = canvas[:, :, inside, inside]
    for index, scene in enumerate(scenes):
        if scene.look.noise_std:
            noise = np.random.Generator(np.random.Philox(scene.look.noise_seed))
            result[index] += noise.normal(0, scene.look.noise_std, result[index].shape)
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


def draw(scene: Scene, timestamps: np.ndarray, size: int) -> np.ndarray:
    """One scene at `timestamps` (frames,) in seconds: uint8 (frames, size, size, 3)."""
    return draw_batch([scene], np.asarray(timestamps, float)[None], size)[0]
