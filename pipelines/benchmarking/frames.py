"""Frames of a benchmark's videos as a protocol shows them: decoded by ingest's workers, kept in ingest's frame cache.

A file is known by its name, size and time: of one that was seen before, in the same shape, the store remembers the
frames' digest, so that nothing is read or decoded to find out that its questions are answered already.
"""

from __future__ import annotations

import functools
import io
import itertools
import json
import os
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.evaluation.benchmarks.contracts import FramePolicy
from components.evaluation.benchmarks.rows import find_medium
from components.ingest.decode import kind_of
from components.ingest.decode_pool import DecodePool, Rejected
from components.ingest.frame_cache import FrameCache, decoding_code, entry_name
from components.ingest.frame_sampling import FrameSampling
from components.ingest.frame_size import FrameSize
from components.ingest.readers import decoder_version
from components.ingest.settings import IngestSettings
from components.shared.dataset import frames_digest
from components.shared.files import sha256_bytes
from components.shared.schemas import Quarantined, Record, Sample
from components.shared.store import Store

SEEN = "seen-media"  # where the store remembers files that were decoded
_GIGABYTE = 1e9
_LARGE = 4000  # pixels a side: above every protocol's bound


@dataclass(frozen=True)
class Medium:
    """A video or image below the benchmark's folder. `clip`: from and to which second of it; None: all."""

    name: str
    clip: tuple[float, float] | None = None


class Seen(Record):
    """A medium's frames: where the cache has them, their digest, and their rate in frames a second."""

    entry: str
    digest: str
    fps: float


def media_of(sample: Sample, policy: FramePolicy) -> tuple[Medium, ...]:
    """What a question shows: its video, cut where the protocol cuts and the row has bounds, and its image if it has one."""
    bounds = [sample.metadata.get(name) for name in ("start", "end")]
    clip = (float(bounds[0] or 0), float(bounds[1] or "inf")) if policy.clip and any(bounds) else None
    image = (Medium(sample.image),) if sample.image else ()
    return (Medium(sample.video, clip), *image)


class _Gate:
    """Lets numbered threads pass, those below a rising number; none any more when it is closed."""

    def __init__(self, open_to: int) -> None:
        self._changed = threading.Condition()
        self._open_to, self._closed = open_to, False

    def passed(self, number: int) -> bool:
        """Wait for one's turn; False if the gate was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or number < self._open_to)
            return not self._closed

    def open(self, open_to: int) -> None:
        with self._changed:
            self._open_to = max(self._open_to, open_to)
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class BenchmarkFrames:
    """The frames of one benchmark's media under one policy. `scratch` holds the workers' output."""

    def __init__(
        self, root: Path, policy: FramePolicy, store: Store, settings: IngestSettings, factor: int, scratch: Path
    ) -> None:
        self._root, self._store, self._settings, self._scratch = root, store, settings, scratch
        self._cache = FrameCache(store)
        sampling = FrameSampling(
            num_frames=max(2, policy.max_frames // 2 * 2),
            fps=policy.fps or 0.0,
            min_frames=policy.min_frames,
            indices=policy.indices,
        )
        bounds = {"fixed": policy.size, "factor": factor}
        bounds |= {name: getattr(policy, name) for name in ("min_pixels", "max_pixels", "total_pixels")}
        size = FrameSize.model_validate({k: v for k, v in bounds.items() if v is not None})
        self._sampling, self._size = sampling.model_dump(), size.model_dump()
        self._bound = settings.frame_cache_size * _GIGABYTE
        height, width = size.of(_LARGE, _LARGE, sampling.num_frames)
        self.largest = 3 * sampling.num_frames * height * width  # bytes of a medium's frames, about
        self._sizes: dict[str, int] = {}  # of the entries that this evaluation uses, bytes
        self._users: Counter[str] = Counter()  # media that show an entry and are still needed
        self._finished: deque[str] = deque()
        self._lock = threading.Lock()
        self._engine = decoder_version(settings.decoder)
        self._busy: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)  # by entry: copies wait
        self._numbers = itertools.count()
        scratch.mkdir(parents=True, exist_ok=True)

    def known(self, media: Iterable[Medium]) -> dict[Medium, Seen]:
        """Those of the media whose frames were seen before, in this shape, of this file."""
        paths = {medium: find_medium(self._root, medium.name) for medium in media}
        notes = {medium: self._note(path, self._recipe(medium)) for medium, path in paths.items() if path}
        found = self._store.read_objects(list(dict.fromkeys(notes.values())))
        return {medium: Seen.model_validate_json(raw) for medium, note in notes.items() if (raw := found[note])}

    @contextmanager
    def look(self, media: Sequence[Medium]) -> Iterator[Iterator[Seen | Quarantined]]:
        """Each medium's frames put into the cache, in order, on all workers; or why it is unusable.

        Decoding runs ahead of what was asked for by `need`, by as many media as fit into half the cache.
        """
        workers = self._settings.decode_workers or len(os.sched_getaffinity(0))
        self._ahead = max(2 * workers, int(self._bound / 2 / self.largest))
        self._gate = _Gate(self._ahead)
        pool = DecodePool(min(workers, max(1, len(media))), self._scratch / "decode.log", self._settings.decoder)
        results = pool.map(functools.partial(self._one, pool), list(enumerate(media)))
        try:
            yield results
        finally:
            self._gate.close()
            results.close()

    def need(self, count: int) -> None:
        """The first `count` of the media that are looked at are needed now."""
        self._gate.open(count + self._ahead)

    def done_with(self, seen: Seen) -> None:
        """No further question shows this medium: its frames go, the oldest first, when the cache is full."""
        with self._lock:
            self._users[seen.entry] -= 1
            self._finished.append(seen.entry)
            while self._finished and sum(list(self._sizes.values())) > self._bound:
                entry = self._finished.popleft()
                if self._users[entry] <= 0 and self._sizes.pop(entry, 0):  # 0: another medium had the same frames
                    self._cache.drop(entry)

    def load(self, seen: Seen) -> np.ndarray:
        """The frames, uint8 (T, H, W, 3), of a medium that was looked at. Raises RuntimeError if the cache lost them."""
        found = self._cache.read(seen.entry)
        if found is None:
            raise RuntimeError(f"frames {seen.entry} left the cache while they were needed; run the command again")
        return _array(found)

    def trim(self) -> None:
        """Bring the cache below its bound, the least recently used frames first."""
        self._cache.trim(self._bound)

    def _one(self, pool: DecodePool, numbered: tuple[int, Medium]) -> Seen | Quarantined:
        number, medium = numbered
        if not self._gate.passed(number):
            return Quarantined(item=medium.name, reason="stopped", detail="the evaluation ended before")
        path = find_medium(self._root, medium.name)
        if path is None:
            return Quarantined(item=medium.name, reason="missing", detail="there is no such file in the copy")
        if medium.clip and medium.clip[0] >= medium.clip[1]:
            return Quarantined(item=medium.name, reason="bad_clip", detail=f"the row's clip is {medium.clip}")
        try:
            return self._decoded(pool, path, self._recipe(medium))
        except Rejected as problem:
            return Quarantined(item=medium.name, reason=problem.reason, detail=problem.detail)

    def _decoded(self, pool: DecodePool, path: Path, recipe: dict[str, Any]) -> Seen:
        note = self._note(path, recipe)
        raw = self._store.read_object(note)
        before = Seen.model_validate_json(raw) if raw else None
        if before:
            entry = before.entry
        else:
            with pool.worker() as worker:
                content = worker.ask(self._settings.decode_timeout, operation="digest", path=str(path))["digest"]
            entry = entry_name(content, recipe | {"engine": self._engine if recipe["operation"] == "video" else ""})
        with self._busy[entry], self._claimed(entry):
            found = self._cache.read(entry)
            if found is not None and before:
                self._sizes[entry] = len(found)
                return before
            if found is None:
                found = self._decode(pool, path, recipe)
                self._cache.write(entry, found)
            self._sizes[entry] = len(found)
        times, frames = json.loads(found.partition(b"\n")[0])["timestamps"], _array(found)
        fps = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 1.0
        seen = Seen(entry=entry, digest=frames_digest(frames), fps=fps)
        self._store.write_object(note, seen.model_dump_json().encode())
        return seen

    @contextmanager
    def _claimed(self, entry: str) -> Iterator[None]:
        """Keep `done_with` from dropping the entry, from now until this medium's own turn; not if the block fails."""
        with self._lock:
            self._users[entry] += 1
        try:
            yield
        except Rejected:
            with self._lock:
                self._users[entry] -= 1
            raise

    def _recipe(self, medium: Medium) -> dict[str, Any]:
        """What a worker is asked, but for the paths: all that shapes the frames of a content."""
        kind = kind_of(medium.name)
        recipe: dict[str, Any] = {"operation": kind, "frame_size": self._size}
        if kind == "video":
            recipe |= {"decoder": self._settings.decoder, "sampling": self._sampling, "clip": medium.clip}
        return recipe

    def _note(self, path: Path, recipe: dict[str, Any]) -> str:
        parts = [_stamp(path), recipe, self._engine, decoding_code()]
        return f"{SEEN}/{sha256_bytes(json.dumps(parts, sort_keys=True).encode())[:32]}.json"

    def _decode(self, pool: DecodePool, path: Path, recipe: dict[str, Any]) -> bytes:
        """A line of JSON (timestamps and duration in seconds), then the frames as .npy: ingest's form of an entry."""
        out = self._scratch / f"{next(self._numbers)}.npy"
        try:
            with pool.worker() as worker:
                times = worker.ask(self._settings.decode_timeout, path=str(path), out=str(out), **recipe)
            return json.dumps(times).encode() + b"\n" + out.read_bytes()
        finally:
            out.unlink(missing_ok=True)


def _array(entry: bytes) -> np.ndarray:
    return np.load(io.BytesIO(entry.partition(b"\n")[2]), allow_pickle=False)


def _stamp(path: Path) -> list[Any]:
    """What changes with a file's content, or a folder's, known without reading it."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [str(path.absolute()), *((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)]
