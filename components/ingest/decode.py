"""Videos and images to stored frames: each content decoded once, in this ingest or in one before it."""

from __future__ import annotations

import io
import json
import os
import shutil
import threading
from collections import defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from components.ingest.decode_pool import DecodePool, Rejected
from components.ingest.frame_cache import FrameCache, entry_name
from components.ingest.frame_sampling import clip_of
from components.ingest.readers import decoder_version
from components.ingest.settings import IngestSettings
from components.ingest.sources import Source
from components.shared.dataset import frames_digest
from components.shared.files import sha256_bytes
from components.shared.schemas import Frames, Quarantined

Kind = Literal["video", "image"]
_IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def kind_of(name: str) -> Kind:
    """What stands in a sample's `video`: an image, by its name's ending, is shown as a video of one frame."""
    return "image" if PurePosixPath(name).suffix.lower() in _IMAGES else "video"


@dataclass(frozen=True)
class MediaFile:
    """A video (or a clip of one, `frame_sampling.clip_of`) or an image by its name in the source."""

    name: str
    kind: Kind


class FrameDecoder:
    """Decodes files of a source into `folder`/frames/<digest>.npy, unless `cache` has them from an earlier time.

    What is decoded goes into the cache at once, so that an ingest that was killed does not decode it again. `scratch`
    holds downloads and the workers' log.
    """

    def __init__(
        self, source: Source, settings: IngestSettings, cache: FrameCache, *, folder: Path, scratch: Path
    ) -> None:
        self._source, self._settings, self._cache = source, settings, cache
        self._frames, self._scratch = folder / "frames", scratch
        self._frames.mkdir(parents=True)
        scratch.mkdir(parents=True, exist_ok=True)
        self._engine = decoder_version(settings.decoder)
        self._busy: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)  # by content: copies wait
        self.decoded: list[str] = []  # the cache's entries that were not there yet

    def decode(self, files: Sequence[MediaFile]) -> Generator[Frames | Quarantined]:
        """The stored frames of each file in the given order, or why there are none."""
        workers = self._settings.decode_workers or len(os.sched_getaffinity(0))
        workers = min(workers, max(1, len(files)))
        self._pool = DecodePool(workers, self._scratch / "decode.log", self._settings.decoder)
        return self._pool.map(self._one, files)

    def _one(self, file: MediaFile) -> Frames | Quarantined:
        scratch = self._scratch / sha256_bytes(file.name.encode())[:16]
        try:
            return self._store(file, self._found_or_decoded(file, scratch))
        except Rejected as problem:
            return Quarantined(item=file.name, reason=problem.reason, detail=problem.detail)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _found_or_decoded(self, file: MediaFile, scratch: Path) -> bytes:
        """A line of JSON (timestamps and duration in seconds), then the frames as .npy."""
        name, _ = clip_of(file.name)
        path = None
        if cache_id := self._source.cache_id(name):
            content = sha256_bytes(cache_id.encode())
        else:
            path = self._fetch(name, scratch)
            with self._pool.worker() as worker:
                content = worker.ask(self._settings.decode_timeout, operation="digest", path=str(path))["digest"]
        recipe = self._recipe(file)
        entry = entry_name(content, recipe | {"engine": self._engine if file.kind == "video" else ""})
        with self._busy[entry]:
            found = self._cache.read(entry)
            if found is None:
                found = self._ask(recipe, path or self._fetch(name, scratch), scratch)
                self._cache.write(entry, found)
                self.decoded.append(entry)
        return found

    def _recipe(self, file: MediaFile) -> dict[str, object]:
        """What a worker is asked, but for the paths: all that shapes the frames of a content."""
        recipe: dict[str, object] = {"operation": file.kind, "frame_size": self._settings.frame_size}
        if file.kind == "video":
            sampling = self._settings.sampling().model_dump()
            recipe |= {"decoder": self._settings.decoder, "sampling": sampling, "clip": clip_of(file.name)[1]}
        return recipe

    def _fetch(self, name: str, scratch: Path) -> Path:
        try:
            return self._source.fetch(name, scratch / "download")
        except OSError as error:
            raise Rejected("fetch_failed", "the file could not be downloaded") from error

    def _ask(self, recipe: dict[str, object], path: Path, scratch: Path) -> bytes:
        scratch.mkdir(parents=True, exist_ok=True)
        out = scratch / "frames.npy"
        with self._pool.worker() as worker:
            times = worker.ask(self._settings.decode_timeout, path=str(path), out=str(out), **recipe)
        return json.dumps(times).encode() + b"\n" + out.read_bytes()

    def _store(self, file: MediaFile, decoded: bytes) -> Frames:
        head, _, array = decoded.partition(b"\n")
        times = json.loads(head)
        frames = np.load(io.BytesIO(array), allow_pickle=False)
        digest = frames_digest(frames)
        name = f"{digest}.npy"
        if not (self._frames / name).exists():
            (self._frames / name).write_bytes(array)  # scratch: the store writes it for good
        count, height, width, _ = frames.shape
        timestamps = times["timestamps"]
        return Frames(
            video=file.name,
            file=f"frames/{name}",
            timestamps=timestamps,
            fps=(count - 1) / (timestamps[-1] - timestamps[0]) if count > 1 else 1.0,
            duration=times["duration"],
            height=height,
            width=width,
            digest=digest,
        )
