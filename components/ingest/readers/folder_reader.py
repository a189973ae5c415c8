"""A folder of pictures as a video: MVBench's episodes come as frames, their rate in the folder's name (`frames_fps3_hq`)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image

from components.ingest.readers.contracts import Unusable, broken_off

_RATE = re.compile(r"fps(\d+)")
_PICTURES = (".jpg", ".jpeg", ".png")


class FolderReader:
    """A `VideoReader`. Frames are in the order of their names."""

    def __init__(self, path: str, frame_size: int | None) -> None:
        self._size = frame_size
        self._files = sorted(file for file in Path(path).iterdir() if file.suffix.lower() in _PICTURES)
        rates = [found for part in reversed(Path(path).parts) for found in _RATE.findall(part)]
        if not self._files:
            raise Unusable("empty_folder", "the folder holds no pictures")
        if not rates or not int(rates[0]):
            raise Unusable("no_frame_rate", "no folder above the pictures tells their rate, as `fps3` does")
        self._fps = int(rates[0])

    def times(self) -> np.ndarray:
        begins = np.arange(len(self._files), dtype=np.float64)
        return np.stack([begins, begins + 1], axis=1) / self._fps

    def frames(self, indices: np.ndarray) -> np.ndarray:
        try:
            return np.stack([self._pixels(self._files[index]) for index in indices.tolist()])
        except (OSError, SyntaxError, ValueError) as error:
            raise broken_off() from error

    def _pixels(self, file: Path) -> np.ndarray:
        with Image.open(file) as picture:
            shown = picture.convert("RGB")
            if self._size:
                shown = shown.resize((self._size, self._size), Image.Resampling.BICUBIC)
            return np.asarray(shown)


open_video = FolderReader
