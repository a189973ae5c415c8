"""The dataset artifact: `samples.jsonl`, `frames.jsonl`, `frames/<digest>.npy`, `quarantine.jsonl`, `report.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from components.shared.files import sha256_bytes
from components.shared.schemas import Augmentation, Frames, Quarantined, Record, Sample

SAMPLES, FRAMES, QUARANTINE, REPORT = "samples.jsonl", "frames.jsonl", "quarantine.jsonl", "report.json"

# What a masked frame is filled with: the processor's mean colour, so that the vision encoder gets zeros. Black would be a
# dark scene, and a repeated frame would say that nothing moved.
MASK_COLOUR = (123, 117, 104)

MAX_HINT_TOKENS = "max_hint_tokens"  # in the report: the room that ingest kept in every training prompt for a hint


def frames_digest(frames: np.ndarray) -> str:
    """SHA-256 over the shape and the bytes of uint8 frames (T, H, W, 3)."""
    return sha256_bytes(str(frames.shape).encode(), np.ascontiguousarray(frames).tobytes())


def add_noise(frames: np.ndarray, std: float, seed: int) -> np.ndarray:
    """Frames (T, H, W, 3) uint8 with Gaussian noise of `std` grey levels, a fresh draw a frame, rounded and clipped.

    `seed` keys NumPy's Philox generator, so that sampler and trainer make the same bytes.
    """
    draws = np.random.Generator(np.random.Philox(seed)).normal(0.0, std, size=frames.shape)
    return np.clip(np.rint(frames + draws), 0, 255).astype(np.uint8)


def mask_frames(frames: np.ndarray, masked: Sequence[int]) -> np.ndarray:
    """Frames (T, H, W, 3) uint8 of which those in `masked` (from 0) are MASK_COLOUR all over.

    They keep their place, so that the others keep their times and the prompt its length.
    """
    changed = frames.copy()
    changed[list(masked)] = MASK_COLOUR
    return changed


def write_records(path: Path, records: Iterable[Record]) -> None:
    """One JSON object a line."""
    path.write_text("".join(record.model_dump_json() + "\n" for record in records))


class DatasetReader:
    """Reads a dataset artifact from its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._frames = {item.video: item for item in map(Frames.model_validate_json, self._lines(FRAMES))}
        self._samples = [Sample.model_validate_json(line) for line in self._lines(SAMPLES)]
        self._by_id = {sample.id: sample for sample in self._samples}

    def _lines(self, name: str) -> list[str]:
        return (self.folder / name).read_text().splitlines()

    def samples(self, split: str | None = None) -> list[Sample]:
        """The samples of a split (all by default), ordered by id."""
        return [sample for sample in self._samples if split is None or sample.split == split]

    def sample(self, sample_id: str) -> Sample:
        """One sample. Raises KeyError if the dataset has none of that id."""
        return self._by_id[sample_id]

    def splits(self) -> list[str]:
        """The names of the splits, sorted."""
        return sorted({sample.split for sample in self._samples})

    def quarantine(self) -> list[Quarantined]:
        """What ingest left out."""
        return [Quarantined.model_validate_json(line) for line in self._lines(QUARANTINE)]

    def report(self) -> dict[str, object]:
        """Ingest's counts."""
        return json.loads((self.folder / REPORT).read_text())

    def max_hint_tokens(self) -> int:
        """The room that every training prompt has for a hint, in tokens."""
        return int(str(self.report()[MAX_HINT_TOKENS]))

    def frames_record(self, video: str) -> Frames:
        """Timestamps, rate and sizes of a video's stored frames (also of an image: one frame)."""
        return self._frames[video]

    def frames(self, video: str) -> np.ndarray:
        """The stored frames of a video, uint8 (T, H, W, 3)."""
        return np.load(self.folder / self._frames[video].file, allow_pickle=False)

    def augmented_frames(self, sample: Sample, augmentation: Augmentation) -> np.ndarray:
        """The frames that the policy sees under `augmentation`, uint8 (T, H, W, 3).

        Raises ValueError if the noised or masked frames' digest is not the recorded one.
        """
        frames = self.frames(sample.video)
        if augmentation.kind == "noise":
            changed = add_noise(frames, augmentation.level, augmentation.noise_seed)
        elif augmentation.kind == "mask":
            changed = mask_frames(frames, augmentation.masked_frames)
        else:
            return frames
        if augmentation.frames_digest and frames_digest(changed) != augmentation.frames_digest:
            what = {"noise": "noised", "mask": "masked"}[augmentation.kind]
            raise ValueError(f"sample {sample.id}: {what} frames differ from the recorded digest")
        return changed
