"""NExT-GQA in VideoChat-R1's form: nextgqa_val.json, questions with the moments that answer them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.ingest.formats.contracts import Terms, answer_letter, required, required_list
from components.shared.prompts import option_letter
from components.shared.public_rows import bare_options, next_gqa_spans


class NextGqaFormat:
    """A JSON list; `glue` holds the moments. `ingest.videos` is the folder that `video` (as "1104/4882821564.mp4") begins in."""

    terms: Terms | None = Terms(
        "NExT-GQA (VideoChat-R1's form)",
        "MIT",
        "videos from VidOR and YFCC100M under their own terms",
        "https://github.com/doc-doc/NExT-GQA",
    )

    def recognises(self, row: Mapping[str, object]) -> bool:
        return "glue" in row and "video" in row and "question" in row

    def fields(self, row: Mapping[str, Any], option_seed: int) -> dict[str, object]:
        options = bare_options([str(option).strip() for option in required_list(row, "options")], "({letter}) ")
        glue = required_list(row, "glue")
        if not all(isinstance(span, list) and len(span) == 2 for span in glue):
            raise ValueError(f"glue: {glue!r} is not a list of [start, end]")
        answer = answer_letter(str(required(row, "answer")).strip(), options)
        if answer not in [option_letter(index) for index in range(len(options))]:
            raise ValueError(f"answer: {answer!r} names none of the {len(options)} options")
        found = {"id": f"next_gqa/{row['id']}"} if row.get("id") is not None else {}
        return found | {
            "video": str(required(row, "video")).strip(),
            "question": str(required(row, "question")).strip(),
            "options": options,
            "answer": answer,
            "task": "grounded_qa",
            "spans": next_gqa_spans(glue),
            "source": "NExT-GQA",
            "licence": "MIT (annotations)",
            "metadata": {"type": str(row["type"])} if row.get("type") else {},
        }
