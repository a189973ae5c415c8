"""The annotations and where their videos are: given by a path or URI, or generated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.ingest.annotations import BAD_ROW, Annotations, OptionOrder, split_of
from components.ingest.decode import kind_of
from components.ingest.errors import IngestError
from components.ingest.formats.contracts import Terms
from components.ingest.frame_sampling import clip_of
from components.ingest.row_file import RowFile
from components.ingest.settings import MOVING_SHAPES, IngestSettings
from components.ingest.sources import Source, open_source, split_uri
from components.shared.files import sha256_bytes, sha256_file
from components.shared.schemas import Quarantined


@dataclass(frozen=True)
class Inputs:
    """The annotations' rows, and the source of their videos and images."""

    rows: RowFile
    bad_rows: list[Quarantined]
    videos: Source
    stamp: str  # changes with the content of annotations, videos and images
    terms: Terms | None = None  # of a public set

    @property
    def total(self) -> int:
        """Good rows and bad ones."""
        return len(self.rows) + len(self.bad_rows)


def generated_stamp(settings: IngestSettings) -> str:
    """The stamp of the generated questions, known before they are made."""
    return f"{MOVING_SHAPES} {settings.moving_shapes_seed}"


def generate_inputs(settings: IngestSettings, folder: Path) -> Inputs:
    """Generate the project's own questions into the new `folder`."""
    from components.ingest.moving_shapes.generate import ANNOTATIONS, MovingShapesSettings, generate

    generate(folder, MovingShapesSettings(seed=settings.moving_shapes_seed))
    videos = open_source(str(folder))
    return _inputs(folder / ANNOTATIONS, videos, settings, folder, lambda rows: generated_stamp(settings))


def read_inputs(settings: IngestSettings, scratch: Path | None) -> Inputs:
    """Read the given annotations; downloads and rows go to `scratch` (None: nothing is downloaded, rows go to TMPDIR).

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
        path = source.fetch(name, scratch or Path())
    except OSError as error:
        raise IngestError(f"ingest.annotations: {settings.annotations} cannot be read ({error})") from error

    def stamp(rows: RowFile) -> str:
        used = sorted({*rows.videos.names, *rows.images.names})
        stamps = (f"{name}\0{videos.stamp(clip_of(name)[0])}\n".encode() for name in used)
        return sha256_bytes(sha256_file(path).encode(), *stamps)

    return _inputs(path, videos, settings, scratch, stamp)


def with_files(inputs: Inputs) -> tuple[np.ndarray, list[Quarantined]]:
    """Rows, by index, whose files exist and are used as one kind; what is wrong with the others, after the bad rows."""
    rows, out, missing = inputs.rows, list(inputs.bad_rows), Counter[str]()
    absent = {name for name in {*rows.videos.names, *rows.images.names} if _absent(inputs.videos, name)}
    no_video, no_image = rows.videos.marked(absent), rows.images.marked(absent)
    for column, without in ((rows.videos, no_video), (rows.images, no_image & ~no_video)):
        missing.update(column.names[number] for number in column.numbers()[without])
    clash = rows.images.marked(name for name in rows.videos.names if kind_of(name) == "video")
    clash &= ~(no_video | no_image)
    for row in rows.rows(np.flatnonzero(clash).tolist()):
        detail = f"image: {row.sample.image} is also used as a video"
        out.append(Quarantined(item=row.origin, reason=BAD_ROW, detail=detail))
    out += [
        Quarantined(item=name, reason="missing", detail="there is no such file", samples=count)
        for name, count in sorted(missing.items())
    ]
    return np.flatnonzero(~(no_video | no_image | clash)), out


def _absent(videos: Source, name: str) -> bool:
    return videos.stamp(clip_of(name)[0]) is None


def _inputs(
    path: Path, videos: Source, settings: IngestSettings, scratch: Path | None, stamp: Callable[[RowFile], str]
) -> Inputs:
    def split_for(video: str) -> str:
        return split_of(clip_of(video)[0], settings.held_out_fraction, settings.promotion_fraction)

    order = OptionOrder(settings.shuffle_options, settings.option_seed)
    annotations = Annotations(
        path, settings.annotation_format, videos.relative, split_for, order, settings.prompt_template
    )
    rows, bad_rows = RowFile(scratch), []
    for row in annotations:
        if isinstance(row, Quarantined):
            bad_rows.append(row)
        else:
            rows.add(row)
    return Inputs(rows, bad_rows, videos, stamp(rows), annotations.terms)
