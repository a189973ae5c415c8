"""Readers of video files by their setting's name. A reader is imported when it is asked for."""

from __future__ import annotations

import importlib
import os
from importlib import metadata
from types import ModuleType

from components.ingest.errors import IngestError
from components.ingest.readers.contracts import Decoder, VideoReader

_LIBRARIES: dict[Decoder, str] = {"decord": "decord", "pyav": "av", "torchcodec": "torchcodec"}  # as pip names them


def load_decoder(decoder: Decoder) -> ModuleType:
    """The reader's module, imported. Raises ImportError if its library is not installed or does not load."""
    try:
        return importlib.import_module(f"components.ingest.readers.{decoder}_reader")
    except (OSError, RuntimeError) as error:  # torchcodec without FFmpeg's libraries, or beside a torch not its own
        raise ImportError(f"{decoder} does not load: {error}") from error


def decoder_version(decoder: Decoder) -> dict[str, str]:
    """The decoder's library and its version. Raises IngestError if it is not installed; whether it loads shows in use."""
    library = _LIBRARIES[decoder]
    try:
        return {library: metadata.version(library)}
    except metadata.PackageNotFoundError:
        raise IngestError(
            f"ingest.decoder: {decoder} is not installed here; install the project's extra of that name, or set the "
            "decoder to decord or pyav"
        ) from None


def open_video(path: str, decoder: Decoder, frame_size: int | None) -> VideoReader:
    """A video whose frames come as squares of `frame_size` pixels, None: as they are. Raises Unusable if it cannot be read.

    A folder of pictures is a video too, whatever the decoder.
    """
    reader = importlib.import_module(f"{__name__}.folder_reader") if os.path.isdir(path) else load_decoder(decoder)
    return reader.open_video(path, frame_size)
