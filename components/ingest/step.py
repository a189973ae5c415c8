"""The ingest step: annotations, videos and a base model to the dataset and the first policy, state and buffer."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from components.ingest.base_model import model_stamp, stage_model
from components.ingest.decode import FrameDecoder, MediaFile, kind_of
from components.ingest.frame_cache import FrameCache
from components.ingest.inputs import generate_inputs, generated_stamp, read_inputs, with_files
from components.ingest.limits import check_losses, check_to_train_on, counts_by_reason
from components.ingest.prompt_length import PromptCounter
from components.ingest.readers import decoder_version
from components.ingest.row_file import RowFile
from components.ingest.selection import DUPLICATE, by_id, select, with_frames
from components.ingest.settings import MOVING_SHAPES, IngestSettings
from components.shared.context import StepContext
from components.shared.dataset import FRAMES, MAX_HINT_TOKENS, QUARANTINE, REPORT, SAMPLES, write_records
from components.shared.ledger import Outputs
from components.shared.progress import progress
from components.shared.sampling.artifacts import BUFFER, put_files
from components.shared.schemas import ArtifactRef, Frames, Quarantined
from components.shared.store import FolderStore, Store

PROGRESS = "progress.json"  # the state's file before there is an optimizer
_GB = 1e9  # bytes
_NAMED = 20  # quarantined items in the results; the dataset artifact has them all


def ingest(settings: IngestSettings, context: StepContext) -> Outputs:
    """Artifacts `dataset`, `policy` (the base model), `state` and `buffer` (both as before the first round).

    Depends on the content of its inputs and on the settings, not on the seed. Raises IngestError, which names the file,
    the field and the remedy, if an input cannot be used at all, if nothing is left to train on, or if more than
    max_quarantine_fraction of the samples would be lost.
    """
    started = time.perf_counter()
    store, ledger = context.open_store(), context.open_ledger()
    with _scratch_folder(store) as scratch:
        given = None if settings.annotations == MOVING_SHAPES else read_inputs(settings, scratch / "annotations")
        stamps = {"data": given.stamp if given else generated_stamp(settings), "model": model_stamp(settings)}
        key = ledger.key("ingest", stamps, settings.shapes_outputs(), 0)
        if done := ledger.finished(key):
            return done
        policy = scratch / "policy"
        metadata = stage_model(settings, policy)
        counter = PromptCounter(policy)
        counter.check_frame_size(settings.frame_size)
        inputs = given or generate_inputs(settings, scratch / MOVING_SHAPES)
        if inputs.terms:
            print(inputs.terms.line(), flush=True)
        rows, total = inputs.rows, inputs.total
        kept, quarantine = with_files(inputs)
        check_losses(quarantine, total, settings.max_quarantine_fraction)

        cache = FrameCache(store)
        dataset = scratch / "dataset"
        decoder = FrameDecoder(inputs.videos, settings, cache, folder=dataset, scratch=scratch / "decode")
        decoding = time.perf_counter()
        frames, failed = _decode(decoder, rows, kept)
        decoding = time.perf_counter() - decoding
        kept, problems = with_frames(rows, kept, frames, failed)
        quarantine += problems
        kept, problems = select(
            rows,
            kept,
            frames,
            counter,
            frame_size=settings.frame_size,
            max_prompt_length=settings.max_prompt_length,
            max_hint_tokens=settings.max_hint_tokens,
        )
        quarantine += problems
        check_losses(quarantine, total, settings.max_quarantine_fraction)
        check_to_train_on(rows.splits.used(kept), settings.annotations)
        report = _report(rows, kept, frames, quarantine, total) | {MAX_HINT_TOKENS: settings.max_hint_tokens}
        outputs = Outputs(
            artifacts={
                "dataset": _put_dataset(store, dataset, rows, kept, frames, quarantine, report),
                "policy": store.put(policy, "policy", metadata),
                "state": _first_state(store),
                "buffer": put_files(store, "buffer", {BUFFER: b""}, {"samples": 0}),
            },
            results={
                **report,
                "first_quarantined": [item.model_dump() for item in quarantine[:_NAMED]],
                "terms": inputs.terms.line() if inputs.terms else "",
                "files_decoded": len(decoder.decoded),
                "decode_seconds": decoding,
                "engines": decoder_version(settings.decoder),  # in the decode workers
            },
            seconds=time.perf_counter() - started,
        )
    outputs = ledger.finish(key, outputs)
    cache.trim(settings.frame_cache_size * _GB)
    return outputs


@contextlib.contextmanager
def _scratch_folder(store: Store) -> Iterator[Path]:
    """A temporary folder: inside a folder's store, so that storing moves and does not copy; else where TMPDIR says."""
    parent = store.root / ".staging" if isinstance(store, FolderStore) else None
    if parent:
        parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ingest-", dir=parent) as folder:
        yield Path(folder)


def _decode(decoder: FrameDecoder, rows: RowFile, kept: np.ndarray) -> tuple[dict[str, Frames], list[Quarantined]]:
    """Frames by the name of their video or image, and the files that have none."""
    videos, images = rows.videos.used(kept), rows.images.used(kept)
    files = [MediaFile(name, kind_of(name)) for name in videos]
    files += [MediaFile(name, "image") for name in images if name not in set(videos)]
    frames: dict[str, Frames] = {}
    failed: list[Quarantined] = []
    with (
        progress("Decoding videos", total=len(files), unit="files") as advance,
        contextlib.closing(decoder.decode(files)) as results,
    ):
        for result in results:
            if isinstance(result, Frames):
                frames[result.video] = result
            else:
                failed.append(result)
            advance()
    return frames, failed


def _report(
    rows: RowFile, kept: np.ndarray, frames: dict[str, Frames], quarantine: Sequence[Quarantined], total: int
) -> dict[str, object]:
    """The counts of the dataset's report.json."""
    pairs = zip(rows.splits.numbers()[kept].tolist(), rows.tasks.numbers()[kept].tolist(), strict=True)
    tasks: dict[str, Counter[str]] = {}
    for (split, task), count in Counter(pairs).items():
        tasks.setdefault(rows.splits.names[split], Counter())[rows.tasks.names[task]] = count
    by_reason = counts_by_reason(quarantine)
    videos = rows.videos.used(kept)
    return {
        "rows": total,
        "samples": len(kept),
        "videos": len(videos),
        "distinct_videos": len({frames[video].digest for video in videos}),
        "splits": {split: counts.total() for split, counts in sorted(tasks.items())},
        "tasks": {split: dict(sorted(counts.items())) for split, counts in sorted(tasks.items())},
        "duplicates": sum(item.samples for item in quarantine if item.reason == DUPLICATE),
        "quarantined": sum(by_reason.values()),
        "quarantined_by_reason": by_reason,
    }


def _put_dataset(
    store: Store,
    folder: Path,
    rows: RowFile,
    kept: np.ndarray,
    frames: dict[str, Frames],
    quarantine: Sequence[Quarantined],
    report: dict[str, object],
) -> ArtifactRef:
    """Store the dataset, without the frames that no sample uses any more."""
    used = sorted({*rows.videos.used(kept), *rows.images.used(kept)})
    files = {frames[name].file for name in used}
    for path in (folder / "frames").iterdir():
        if path.relative_to(folder).as_posix() not in files:
            path.unlink()
    with open(folder / SAMPLES, "wb") as out:
        out.writelines(rows.line(index) for index in by_id(rows, kept))
    write_records(folder / FRAMES, (frames[name] for name in used))
    write_records(folder / QUARANTINE, quarantine)
    (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n")
    return store.put(folder, "dataset", {"samples": len(kept), "videos": len(files)})


def _first_state(store: Store) -> ArtifactRef:
    """The training state before the first step: no optimizer yet."""
    start = {"global_step": 0, "stop_reason": "", "history": []}
    return put_files(store, "state", {PROGRESS: json.dumps(start).encode()}, {"stop_reason": "", "global_step": 0})
