"""The ingest step: annotations, videos and a base model to the dataset and the first policy, state and buffer."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from components.ingest.annotations import Row
from components.ingest.base_model import model_stamp, stage_model
from components.ingest.decode import FrameDecoder, MediaFile
from components.ingest.errors import IngestError
from components.ingest.inputs import Inputs, generate_inputs, generated_stamp, read_inputs, with_files
from components.ingest.limits import check_losses, counts_by_reason
from components.ingest.prompt_length import PromptCounter
from components.ingest.selection import DUPLICATE, select, with_frames
from components.ingest.settings import MOVING_SHAPES, IngestSettings
from components.shared.context import StepContext
from components.shared.dataset import FRAMES, MAX_HINT_TOKENS, QUARANTINE, REPORT, SAMPLES, write_records
from components.shared.engines import engine_version
from components.shared.ledger import Ledger, Outputs
from components.shared.progress import progress
from components.shared.sampling.artifacts import BUFFER, put_files
from components.shared.schemas import TRAIN_SPLIT, ArtifactRef, Frames, Quarantined
from components.shared.store import FolderStore, Store

PROGRESS = "progress.json"  # the state's file before there is an optimizer
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
        key = ledger.key("ingest", stamps, settings.model_dump(mode="json", exclude={"decode_workers"}), 0)
        if done := ledger.finished(key):
            return done
        policy = scratch / "policy"
        metadata = stage_model(settings, policy)
        counter = PromptCounter(policy)
        counter.check_frame_size(settings.frame_size)
        inputs = given or generate_inputs(settings, scratch / MOVING_SHAPES)
        total = len(inputs.rows) + len(inputs.bad_rows)
        rows, quarantine = with_files(inputs)
        check_losses(quarantine, total, settings.max_quarantine_fraction)

        decode_key = ledger.key("decode", {}, settings.model_dump(include={"num_frames", "frame_size"}), 0)
        dataset = scratch / "dataset"
        frames, failed = _decode(inputs, rows, settings, ledger, decode_key, dataset, scratch / "decode")
        kept, problems = with_frames(rows, frames, failed)
        quarantine += problems
        kept, problems = select(
            kept,
            frames,
            counter,
            frame_size=settings.frame_size,
            max_prompt_length=settings.max_prompt_length,
            max_hint_tokens=settings.max_hint_tokens,
        )
        quarantine += problems
        check_losses(quarantine, total, settings.max_quarantine_fraction)
        if not any(row.sample.split == TRAIN_SPLIT for row in kept):
            splits = sorted({row.sample.split for row in kept})
            raise IngestError(
                f"{settings.annotations}: nothing is left to train on, no sample has the split {TRAIN_SPLIT!r} (there "
                f"are {splits}); set `split` in its rows, or lower ingest.held_out_fraction and "
                "ingest.promotion_fraction"
            )
        report = _report(kept, frames, quarantine, total) | {MAX_HINT_TOKENS: settings.max_hint_tokens}
        outputs = Outputs(
            artifacts={
                "dataset": _put_dataset(store, dataset, kept, frames, quarantine, report),
                "policy": store.put(policy, "policy", metadata),
                "state": _first_state(store),
                "buffer": put_files(store, "buffer", {BUFFER: b""}, {"samples": 0}),
            },
            results={
                **report,
                "first_quarantined": [item.model_dump() for item in quarantine[:_NAMED]],
                "engines": {"decord": engine_version("decord")},  # in the decode workers
            },
            seconds=time.perf_counter() - started,
        )
    outputs = ledger.finish(key, outputs)
    store.delete_objects(f"work/{decode_key}")
    return outputs


@contextlib.contextmanager
def _scratch_folder(store: Store) -> Iterator[Path]:
    """A temporary folder: inside a folder's store, so that storing moves and does not copy; else where TMPDIR says."""
    parent = store.root / ".staging" if isinstance(store, FolderStore) else None
    if parent:
        parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ingest-", dir=parent) as folder:
        yield Path(folder)


def _decode(
    inputs: Inputs,
    rows: Sequence[Row],
    settings: IngestSettings,
    ledger: Ledger,
    key: str,
    dataset: Path,
    scratch: Path,
) -> tuple[dict[str, Frames], list[Quarantined]]:
    """Frames by the name of their video or image, and the files that have none."""
    images = {row.sample.image for row in rows if row.sample.image}
    files = [MediaFile(name, "video") for name in sorted({row.sample.video for row in rows})]
    files += [MediaFile(name, "image") for name in sorted(images)]
    decoder = FrameDecoder(inputs.videos, settings, ledger, key, folder=dataset, scratch=scratch)
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
    kept: Sequence[Row], frames: dict[str, Frames], quarantine: Sequence[Quarantined], total: int
) -> dict[str, object]:
    """The counts of the dataset's report.json."""
    tasks: dict[str, Counter[str]] = {}
    for row in kept:
        tasks.setdefault(row.sample.split, Counter())[row.sample.task] += 1
    by_reason = counts_by_reason(quarantine)
    return {
        "rows": total,
        "samples": len(kept),
        "videos": len({row.sample.video for row in kept}),
        "distinct_videos": len({frames[row.sample.video].digest for row in kept}),
        "splits": {split: counts.total() for split, counts in sorted(tasks.items())},
        "tasks": {split: dict(sorted(counts.items())) for split, counts in sorted(tasks.items())},
        "duplicates": sum(item.samples for item in quarantine if item.reason == DUPLICATE),
        "quarantined": sum(by_reason.values()),
        "quarantined_by_reason": by_reason,
    }


def _put_dataset(
    store: Store,
    folder: Path,
    kept: Sequence[Row],
    frames: dict[str, Frames],
    quarantine: Sequence[Quarantined],
    report: dict[str, object],
) -> ArtifactRef:
    """Store the dataset, without the frames that no sample uses any more."""
    samples = sorted((row.sample for row in kept), key=lambda sample: sample.id)
    used = sorted({name for sample in samples for name in (sample.video, sample.image) if name})
    files = {frames[name].file for name in used}
    for path in (folder / "frames").iterdir():
        if path.relative_to(folder).as_posix() not in files:
            path.unlink()
    write_records(folder / SAMPLES, samples)
    write_records(folder / FRAMES, (frames[name] for name in used))
    write_records(folder / QUARANTINE, quarantine)
    (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n")
    return store.put(folder, "dataset", {"samples": len(samples), "videos": len(files)})


def _first_state(store: Store) -> ArtifactRef:
    """The training state before the first step: no optimizer yet."""
    start = {"global_step": 0, "stop_reason": "", "history": []}
    return put_files(store, "state", {PROGRESS: json.dumps(start).encode()}, {"stop_reason": "", "global_step": 0})
