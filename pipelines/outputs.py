"""Whether a result can be written where it is wanted, known before the work that makes it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pipelines.run_folder import RunRefused


def check_output_file(output: Path | None, *inputs: Path | None) -> None:
    """Raises RunRefused if `--output` cannot become a file, or is one of the inputs. Makes the folder that it lies in."""
    if output is None:
        return
    if output.is_dir():
        raise RunRefused(f"--output {output}: is a folder; name a file in it, such as {output / 'result.json'}")
    if any(path is not None and path.resolve() == output.resolve() for path in inputs):
        raise RunRefused(f"--output {output}: is an input of this command, and would be overwritten; name another file")
    _check_folder(output, output.parent)


def check_output_folder(output: Path) -> None:
    """Raises RunRefused if `--output` cannot become a folder that can be written to. Makes it."""
    if output.exists() and not output.is_dir():
        raise RunRefused(f"--output {output}: is a file; name a folder")
    _check_folder(output, output)


def _check_folder(output: Path, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunRefused(
            f"--output {output}: nothing can be written to {folder} ({error.strerror}); name another place"
        ) from None
