"""The annotations and where their videos are: given by a path or URI, or generated."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from components.ingest.annotations import BAD_ROW, Row, read_annotations, split_of
from components.ingest.errors import IngestError
from components.ingest.settings import MOVING_SHAPES, IngestSettings
from components.ingest.sources import Source, open_source, split_uri
from components.shared.files import sha256_bytes, sha256_file
from components.shared.schemas import Quarantined


@dataclass(frozen=True)
class Inputs:
    """The annotations' rows, and the source of their videos and images."""

    rows: list[Row]
    bad_rows: list[Quarantined]
    videos: Source
    stamp: str  # changes with the content of annotations, videos and images


def generated_stamp(settings: IngestSettings) -> str:
    """The stamp of the generated questions, known before they are made."""
    return f"{MOVING_SHAPES} {settings.moving_shapes_seed}"


def generate_inputs(settings: IngestSettings, folder: Path) -> Inputs:
    """Generate the project's own questions into the new `folder`."""
    from components.ingest.moving_shapes.generate import ANNOTATIONS, MovingShapesSettings, generate

    generate(folder, MovingShapesSettings(seed=settings.moving_shapes_seed))
    videos = open_source(str(folder))
    rows, bad_rows = _rows(folder / ANNOTATIONS, videos, settings)
    return Inputs(rows, bad_rows, videos, generated_stamp(settings))


def read_inputs(settings: IngestSettings, scratch: Path) -> Inputs:
    """Read the given annotations; downloads go to `scratch`.

    Raises IngestError if there is no such file, or it cannot be read, or its videos' folder is missing.
    """
    root, name = split_uri(settings.annotations)
    source = open_source(root)
    if source.stamp(name) is None:
        raise IngestError(
            f"ingest.annotations: {settings.annotations}: there is no such file; give a file's path or s3:// URI, or "
            f"{MOVING_SHAPES!r}"
        )
    videos = open_source(settings.videos or root)
    try:
        videos.names()  # a missing folder is one error, not one a video
    except IngestError as error:
        raise IngestError(f"ingest.videos: {error}; give the folder or s3:// prefix of the videos") from error
    try:
        path = source.fetch(name, scratch)
    except OSError as error:
        raise IngestError(f"ingest.annotations: {settings.annotations} cannot be read ({error})") from error
    rows, bad_rows = _rows(path, videos, settings)
    used = sorted({name for row in rows for name in (row.sample.video, row.sample.image) if name})
    stamps = (f"{name}\0{videos.stamp(name)}\n".encode() for name in used)
    return Inputs(rows, bad_rows, videos, sha256_bytes(sha256_file(path).encode(), *stamps))


def with_files(inputs: Inputs) -> tuple[list[Row], list[Quarantined]]:
    """Rows whose files exist and are used as one kind; what is wrong with the others, after the bad rows."""
    videos = {row.sample.video for row in inputs.rows}
    good, out, missing = [], list(inputs.bad_rows), Counter[str]()
    for row in inputs.rows:
        names = [name for name in (row.sample.video, row.sample.image) if name]
        if absent := next((name for name in names if inputs.videos.stamp(name) is None), None):
            missing[absent] += 1
        elif row.sample.image in videos:
            detail = f"image: {row.sample.image} is also used as a video"
            out.append(Quarantined(item=row.origin, reason=BAD_ROW, detail=detail))
        else:
            good.append(row)
    out += [
        Quarantined(item=name, reason="missing", detail="there is no such file", samples=count)
        for name, count in sorted(missing.items())
    ]
    return good, out


def _rows(path: Path, videos: Source, settings: IngestSettings) -> tuple[list[Row], list[Quarantined]]:
    def split_for(video: str) -> str:
        return split_of(video, settings.held_out_fraction, settings.promotion_fraction)

    return read_annotations(path, settings.annotation_format, videos.relative, split_for)
