"""Formats of annotation rows. Another data set's format is one more class here and its name in FORMATS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from components.ingest.errors import IngestError
from components.ingest.formats.contracts import AnnotationFormat
from components.ingest.formats.next_gqa import NextGqaFormat
from components.ingest.formats.own import DeepVideoFormat
from components.ingest.formats.seed_bench_r1 import SeedBenchR1Format
from components.ingest.formats.video_r1 import VideoR1Format

# in the order in which `auto` tries them: the project's own is the least particular
FORMATS: dict[str, AnnotationFormat] = {
    "seed_bench_r1": SeedBenchR1Format(),
    "video_r1": VideoR1Format(),
    "next_gqa": NextGqaFormat(),
    "deepvideo": DeepVideoFormat(),
}


def choose_format(name: str, rows: Iterable[Mapping[str, object]], file: str) -> AnnotationFormat:
    """The format called `name`, or for `auto` the first that recognises a row. Raises IngestError if there is none."""
    if name in FORMATS:
        return FORMATS[name]
    if name != "auto":
        raise IngestError(
            f"ingest.annotation_format: {name!r} is not known; use auto or one of {', '.join(sorted(FORMATS))}"
        )
    seen: set[str] = set()
    for row in rows:
        for candidate in FORMATS.values():
            if candidate.recognises(row):
                return candidate
        seen.update(row)
    raise IngestError(
        f"{file}: no known format fits its rows (fields: {', '.join(sorted(seen)[:12]) or 'none'}). The project's own "
        "format needs video, question, answer and task in each row"
    )
