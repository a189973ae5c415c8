"""What happens in a video: which shapes there are, how they look, when they are visible and how they move.

Lengths are fractions of the frame's side, times are seconds. All times are whole seconds, so that one frame a second is
enough to tell them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

SHAPES = ("circle", "square", "triangle", "cross")
COLORS = ("red", "green", "blue", "yellow")
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
SPEEDS = {"still": 0.0, "slow": 0.045, "fast": 0.1}  # frame sides a second
POSITIONS = ("top left", "top right", "bottom left", "bottom right")
DURATION = 8  # seconds
MARGIN = 0.07  # a centre this close to the middle lines lies in no quadrant
MIN_VISIBLE = {"still": 2, "slow": 3, "fast": 3}  # seconds
MAX_VISIBLE = {"still": DURATION, "slow": DURATION, "fast": 6}  # a fast shape would leave the frame after 6 s
_TRIES = 40

LookName = Literal["plain", "other"]
Rgb = tuple[int, ...]  # red, green, blue in 0 to 255


@dataclass(frozen=True)
class Look:
    """Everything that no question asks about. `top` and `bottom` are the background's RGB, blended down the frame."""

    top: Rgb
    bottom: Rgb
    shades: tuple[Rgb, ...]  # RGB of each of COLORS
    radius: float
    noise_std: float  # grey levels
    noise_seed: int


@dataclass(frozen=True)
class MovingShape:
    """One shape. (x, y) is its centre when it appears; it moves from then until it disappears."""

    shape: str
    color: str
    x: float
    y: float
    direction: str  # a key of DIRECTIONS; "none" if it stays still
    speed: str  # a key of SPEEDS
    appears: int
    disappears: int

    def center(self, time: float) -> tuple[float, float]:
        """The centre at `time` seconds, whether visible then or not."""
        dx, dy = DIRECTIONS.get(self.direction, (0, 0))
        distance = SPEEDS[self.speed] * (min(max(time, self.appears), self.disappears) - self.appears)
        return self.x + dx * distance, self.y + dy * distance

    def visible(self, time: float) -> bool:
        """Whether it is drawn at `time` seconds."""
        return self.appears <= time < self.disappears


@dataclass(frozen=True)
class Scene:
    """One to three shapes of different kinds; their colours may repeat."""

    shapes: tuple[MovingShape, ...]
    look: Look

    def content(self) -> tuple[MovingShape, ...]:
        """What the questions are about; two scenes with equal content are the same scene."""
        return self.shapes


_SHADES = {
    "plain": ((205, 50, 50), (50, 170, 70), (60, 85, 210), (215, 200, 60)),
    "other": ((225, 85, 45), (25, 130, 85), (40, 120, 225), (235, 175, 25)),
}


def random_look(rng: np.random.Generator, name: LookName) -> Look:
    """A look of the family `name`: `plain` is dark grey; `other` has gradients, other shades, sizes and noise."""
    jitter = rng.integers(-12, 13, (len(COLORS), 3))
    shades = tuple(tuple(int(v) for v in np.clip(row, 0, 255)) for row in np.array(_SHADES[name]) + jitter)
    if name == "plain":
        gray = rng.integers(30, 85) + rng.integers(-8, 9, 3)
        top = bottom = tuple(int(v) for v in gray)
        radius, noise_std = float(rng.uniform(0.165, 0.18)), 0.0
    else:
        top, bottom = (tuple(int(v) for v in rng.integers(20, 125) + rng.integers(-20, 21, 3)) for _ in range(2))
        top, bottom = (tuple(max(0, v) for v in side) for side in (top, bottom))
        radius, noise_std = float(rng.uniform(0.15, 0.185)), float(rng.uniform(2.0, 8.0))
    return Look(top, bottom, shades, radius, noise_std, int(rng.integers(2**31)))


def quadrant(x: float, y: float) -> str | None:
    """The name of the quadrant a centre lies in; None within MARGIN of a middle line."""
    if abs(x - 0.5) < MARGIN or abs(y - 0.5) < MARGIN:
        return None
    return f"{'top' if y < 0.5 else 'bottom'} {'left' if x < 0.5 else 'right'}"


def _random_shape(rng: np.random.Generator, shape: str, color: str, radius: float) -> MovingShape | None:
    speed = ("still", "slow", "fast")[rng.choice(3, p=(0.24, 0.36, 0.40))]
    direction = "none" if speed == "still" else tuple(DIRECTIONS)[rng.integers(4)]
    length = int(rng.integers(MIN_VISIBLE[speed], MAX_VISIBLE[speed] + 1))
    appears = int(rng.integers(0, DURATION - length + 1))
    low, high = radius + 0.01, 1 - radius - 0.01
    travel = SPEEDS[speed] * length
    if travel > high - low:
        return None
    dx, dy = DIRECTIONS.get(direction, (0, 0))
    x = round(float(rng.uniform(low + travel * (dx < 0), high - travel * (dx > 0))), 4)
    y = round(float(rng.uniform(low + travel * (dy < 0), high - travel * (dy > 0))), 4)
    if quadrant(x, y) is None:
        return None
    return MovingShape(shape, color, x, y, direction, speed, appears, appears + length)


def _overlap(one: MovingShape, other: MovingShape, radius: float) -> bool:
    start, end = max(one.appears, other.appears), min(one.disappears, other.disappears)
    for time in np.arange(start, end, 0.5).tolist():
        (x1, y1), (x2, y2) = one.center(time), other.center(time)
        if max(abs(x1 - x2), abs(y1 - y2)) < 1.9 * radius:
            return True
    return False


def random_scene(rng: np.random.Generator, look: LookName = "plain") -> Scene:
    """A scene whose shapes do not cover one another. Everything comes from `rng`."""
    style = random_look(rng, look)
    count = int(rng.choice((1, 2, 3), p=(0.3, 0.45, 0.25)))
    colors = [COLORS[i] for i in rng.integers(len(COLORS), size=count)]
    if count > 1 and rng.random() < 0.25:
        colors[1] = colors[0]  # so that "how many are red" is not nearly always one
    shapes: list[MovingShape] = []
    for name, color in zip(rng.permutation(SHAPES)[:count], colors, strict=True):
        for _ in range(_TRIES):
            shape = _random_shape(rng, str(name), color, style.radius)
            if shape and not any(_overlap(shape, other, style.radius) for other in shapes):
                shapes.append(shape)
                break
    return Scene(tuple(shapes), style) if shapes else random_scene(rng, look)
