"""SEED-Bench-R1: the next action of an egocentric task, from a video of the progress and an image of the present."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.ingest.formats.contracts import Terms, order_of, required, required_list
from components.shared.prompts import option_letter
from components.shared.public_rows import seed_bench_r1_media

_WRONG_OPTIONS = 3  # drawn for each training row
_MEDIA = ("video_source", "current_observation_basename")


class SeedBenchR1Format:
    """annotations/training_*.jsonl, whose options are drawn and ordered by the option seed; validation rows keep theirs.

    `ingest.videos` is the set's root, with videos/ and images/ in it.
    """

    terms: Terms | None = Terms(
        "SEED-Bench-R1",
        "Apache-2.0",
        "videos and images under Epic-Kitchens' CC BY-NC 4.0 and Ego4D's licence, not for commercial use",
        "https://huggingface.co/datasets/TencentARC/SEED-Bench-R1",
    )

    def recognises(self, row: Mapping[str, object]) -> bool:
        return "current_observation_basename" in row and "video_source" in row

    def fields(self, row: Mapping[str, Any], option_seed: int) -> dict[str, object]:
        for name in (*_MEDIA, "video_basename") if row.get("task_progress_metadata") else _MEDIA:
            required(row, name)
        video, image = seed_bench_r1_media(row)
        name = str(required(row, "sample_id"))
        if "golden_choice_idx" in row:
            options = [str(required(row, f"choice_{letter}")) for letter in "abcd"]
            found: dict[str, object] = {"answer": str(row["golden_choice_idx"]).strip(), "split": "validation"}
        else:
            options, answer = _drawn(row, option_seed, name)
            found = {"answer": answer}
        known = {key: str(row[key]) for key in ("task_goal", "domain", "video_source") if row.get(key)}
        return found | {
            "id": f"seed_bench_r1/{name}",
            "video": video,
            "image": image,
            "question": str(required(row, "question")).strip(),
            "options": options,
            "task": "multiple_choice",
            "source": "SEED-Bench-R1",
            "licence": "Apache-2.0 (annotations)",
            "metadata": known,
        }


def _drawn(row: Mapping[str, Any], seed: int, name: str) -> tuple[list[str], str]:
    """The right option among up to three of the wrong ones, and its letter."""
    answer = str(required(row, "answer")).strip()
    wrong = [str(option).strip() for option in required_list(row, "negative_answers")]
    wrong = [option for option in dict.fromkeys(wrong) if option and option != answer]
    drawn = [wrong[index] for index in order_of(len(wrong), seed, f"{name} wrong")[:_WRONG_OPTIONS]]
    options = [answer, *drawn]
    places = order_of(len(options), seed, f"{name} order")
    return [options[index] for index in places], option_letter(places.index(0))
