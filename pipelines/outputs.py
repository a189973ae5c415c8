"""Whether a result can be written where it is wanted, known before the work that makes it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pipelines.run_folder import RunRefused


def check_output_file(output: Path | None, *inputs: Path | None) -> None:
    """Raises RunRefused if `--output` cannot become a file, or is an input or a file in one. Makes the folder that it lies in."""
    if output is None:
        return
    if output.is_dir():
        raise RunRefused(f"--output {output}: is a folder; name a file in it, such as {output / 'result.json'}")
    place = output.resolve()
    taken = {place, *place.parents} if place.exists() else {place}
    if any(path is not None and path.resolve() in taken for path in inputs):
        raise RunRefused(f"--output {output}: is an input of this command, and would be overwritten; name another file")
    _check_folder(f"--output {output}", output.parent)


def check_output_folder(output: Path) -> None:
    """Raises RunRefused if `--output` cannot become a folder that can be written to. Makes it."""
    _check_is_folder(f"--output {output}", output)


def check_store(address: str) -> None:
    """Raises RunRefused if a store in a folder cannot be written to. Makes it."""
    from components.shared.store import FolderStore, open_store

    store = open_store(address)
    if isinstance(store, FolderStore):
        _check_is_folder(f"--store {address}", store.root)


def _check_is_folder(option: str, folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise RunRefused(f"{option}: is a file; name a folder")
    _check_folder(option, folder)


def _check_folder(option: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunRefused(
            f"{option}: nothing can be written to {folder} ({error.strerror}); name another place"
        ) from None
