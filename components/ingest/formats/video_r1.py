"""Video-R1-260k and its file of reasoning, Video-R1-COT-165k: questions of five types about images and videos."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from components.ingest.formats.contracts import Terms, answer_letter, required, required_list
from components.shared.public_rows import bare_options
from components.shared.schemas import Task

_SOLUTION = re.compile(r"\s*<answer>\s*(.*?)\s*</answer>\s*", re.DOTALL)
_THOUGHT = re.compile(r"\s*<think>.*</think>\s*", re.DOTALL)
_TASKS: dict[str, Task] = {
    "multiple choice": "multiple_choice",
    "numerical": "numerical",
    "OCR": "ocr",
    "free-form": "free_form",
    "regression": "regression",
}


class VideoR1Format:
    """Rows of both files: where `process` holds reasoning it becomes, with the solution, a response to learn from.

    `ingest.videos` is the folder that `path` begins in. An image stands in the video's place.
    """

    terms: Terms | None = Terms(
        "Video-R1-260k / Video-R1-COT-165k",
        "Apache-2.0, as the project's own code; look at the card",
        "videos and images under the terms of the sets they come from (LLaVA-Video-178K, NExT-QA, PerceptionTest, "
        "CLEVRER, STAR and others)",
        "https://huggingface.co/datasets/Video-R1/Video-R1-data",
    )

    def recognises(self, row: Mapping[str, object]) -> bool:
        return "problem" in row and "problem_type" in row and "solution" in row

    def fields(self, row: Mapping[str, Any], option_seed: int) -> dict[str, object]:
        kind = str(required(row, "problem_type")).strip()
        if kind not in _TASKS:
            raise ValueError(f"problem_type: {kind!r} is none of {', '.join(_TASKS)}")
        solution = str(required(row, "solution"))
        found = _SOLUTION.fullmatch(solution)
        if not found:
            raise ValueError(f"solution: {solution!r} is not <answer>...</answer>")
        task, answer = _TASKS[kind], found[1]
        options: tuple[str, ...] = ()
        if task == "multiple_choice":
            options = bare_options([str(option).strip() for option in required_list(row, "options")])
            answer = answer_letter(answer, options)
        return {
            "id": f"video_r1/{required(row, 'problem_id')}",
            "video": str(required(row, "path")).strip().removeprefix("./"),
            "question": str(required(row, "problem")).strip(),
            "options": options,
            "answer": answer,
            "task": task,
            "response": _response(str(row.get("process") or ""), solution),
            "source": str(row.get("data_source") or "Video-R1-260k"),
            "metadata": {"data_type": str(row.get("data_type") or ""), "problem_type": kind},
        }


def _response(process: str, solution: str) -> str:
    if not process.strip():
        return ""
    if not _THOUGHT.fullmatch(process):
        raise ValueError("process: is not <think>...</think>")
    return f"{process.strip()}\n{solution.strip()}"
