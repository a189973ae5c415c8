"""How public sets write what a sample needs: read here once for training sets (ingest) and benchmarks (evaluation)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.shared.prompts import option_letter
from components.shared.schemas import Span


def bare_options(options: Sequence[str], style: str = "{letter}. ") -> tuple[str, ...]:
    """The options' texts; where each begins with its own letter in `style`, without it."""
    prefixes = [style.format(letter=option_letter(index)) for index in range(len(options))]
    if all(option.startswith(prefix) for option, prefix in zip(options, prefixes, strict=True)):
        return tuple(option.removeprefix(prefix) for option, prefix in zip(options, prefixes, strict=True))
    return tuple(options)


def seed_bench_r1_media(row: Mapping[str, Any]) -> tuple[str, str]:
    """SEED-Bench-R1: (video, image) of a row, below the set's root.

    Where no progress was recorded there is no video: the current observation stands alone, in the video's place. A
    Qwen-VL sees the same in an image and in a video of one frame. Raises KeyError for a missing field.
    """
    source = row["video_source"]
    image = f"images/{source}/{row['current_observation_basename']}"
    if not row.get("task_progress_metadata"):
        return image, ""
    return f"videos/{source}/{row['video_basename']}", image


def next_gqa_spans(glue: Sequence[Sequence[float]]) -> tuple[Span, ...]:
    """NExT-GQA: a row's moments in seconds. Some begin at -0.1 s in the set's own files; here they begin at 0."""
    return tuple((max(0.0, float(start)), float(end)) for start, end in glue)
