"""Videos and images to stored frames: each content decoded once, and kept in the store until the ingest is done."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from components.ingest.decode_pool import DecodePool, Rejected
from components.ingest.settings import IngestSettings
from components.ingest.sources import Source
from components.shared.dataset import frames_digest
from components.shared.files import sha256_bytes
from components.shared.ledger import Ledger
from components.shared.schemas import Frames, Quarantined


@dataclass(frozen=True)
class MediaFile:
    """A video or an image by its name in the source."""

    name: str
    kind: Literal["video", "image"]


class FrameDecoder:
    """Decodes files of a source into `folder`/frames/<digest>.npy.

    What is decoded also goes into the ledger's chunks under `key`, by content, so that an ingest that was killed does
    not decode it again. `scratch` holds downloads and the workers' log.
    """

    def __init__(
        self, source: Source, settings: IngestSettings, ledger: Ledger, key: str, *, folder: Path, scratch: Path
    ) -> None:
        self._source, self._settings, self._ledger, self._key = source, settings, ledger, key
        self._frames, self._scratch = folder / "frames", scratch
        self._frames.mkdir(parents=True)
        scratch.mkdir(parents=True, exist_ok=True)

    def decode(self, files: Sequence[MediaFile]) -> Generator[Frames | Quarantined]:
        """The stored frames of each file in the given order, or why there are none."""
        workers = self._settings.decode_workers or len(os.sched_getaffinity(0))
        self._pool = DecodePool(min(workers, max(1, len(files))), self._scratch / "decode.log")
        return self._pool.map(self._one, files)

    def _one(self, file: MediaFile) -> Frames | Quarantined:
        scratch = self._scratch / sha256_bytes(file.name.encode())[:16]
        try:
            return self._store(file, self._decoded(file, scratch))
        except Rejected as problem:
            return Quarantined(item=file.name, reason=problem.reason, detail=problem.detail)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _decoded(self, file: MediaFile, scratch: Path) -> bytes:
        """A line of JSON (timestamps and duration in seconds), then the frames as .npy."""
        if cache_id := self._source.cache_id(file.name):
            content = sha256_bytes(cache_id.encode())
            return self._ledger.chunk(
                self._key, f"{content}.{file.kind}", lambda: self._ask(file, self._fetch(file, scratch), scratch)
            )
        path = self._fetch(file, scratch)
        with self._pool.worker() as worker:
            content = worker.ask(self._settings.decode_timeout, operation="digest", path=str(path))["digest"]
        return self._ledger.chunk(self._key, f"{content}.{file.kind}", lambda: self._ask(file, path, scratch))

    def _fetch(self, file: MediaFile, scratch: Path) -> Path:
        try:
            return self._source.fetch(file.name, scratch / "download")
        except OSError as error:
            raise Rejected("fetch_failed", "the file could not be downloaded") from error

    def _ask(self, file: MediaFile, path: Path, scratch: Path) -> bytes:
        scratch.mkdir(parents=True, exist_ok=True)
        out = scratch / "frames.npy"
        request: dict[str, object] = {"operation": file.kind, "path": str(path), "out": str(out)}
        request["frame_size"] = self._settings.frame_size
        if file.kind == "video":
            request["num_frames"] = self._settings.num_frames
        with self._pool.worker() as worker:
            times = worker.ask(self._settings.decode_timeout, **request)
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
