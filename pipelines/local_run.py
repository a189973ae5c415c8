"""A run on this machine: compile, start kfp's local runner, show its progress, bring the report out."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from components.ingest.settings import MOVING_SHAPES, REGISTRY, TINY
from components.shared.context import StepContext
from components.shared.processes import ChildFailed, run_child
from components.shared.progress import VARIABLE
from components.shared.runs import end_run
from components.shared.schemas import ArtifactRef
from components.shared.store import open_store
from components.shared.tracking import TrackingWarning, finish_parent, send
from pipelines.failures import failure
from pipelines.live import LiveProgress
from pipelines.run_folder import RunFolder
from pipelines.settings import RunSettings

# Engines that talk to the terminal, look for hubs, or send usage reports are told not to.
_QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "KFP_DISABLE_EXECUTION_CACHING_BY_DEFAULT": "true",
    "PYTHONWARNINGS": "ignore",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_NO_USAGE_STATS": "1",
}


class RunFailed(RuntimeError):
    """A step of the run failed; the message has the error it ended with and names the log."""


def with_absolute_paths(settings: RunSettings) -> RunSettings:
    """The settings with the local paths of the inputs made absolute: steps run in another folder."""

    def absolute(name: str) -> str:
        value = str(getattr(settings.ingest, name))
        first, separator, value = value.rpartition(" else ") if value.startswith(REGISTRY) else ("", "", value)
        is_path = value and "://" not in value and value not in (MOVING_SHAPES, TINY)
        if name == "model":
            is_path = is_path and Path(value).exists()  # else it may be a hub id
        return f"{first}{separator}{Path(value).absolute()}" if is_path else f"{first}{separator}{value}"

    given = {name: absolute(name) for name in ("annotations", "videos", "model")}
    return settings.model_copy(update={"ingest": settings.ingest.model_copy(update=given)})


def run_locally(folder: RunFolder, settings: RunSettings, console: Console) -> None:
    """Run the pipeline in `folder` to its end; what is finished there already is not done again.

    Raises RunFailed if a task fails, and KeyboardInterrupt on Ctrl-C; no process is left in either case.
    """
    from pipelines.dag import compile_pipeline

    started = folder.start(settings)
    compile_pipeline(
        settings,
        folder.pipeline,
        cluster=False,
        run_name=started.name,
        run_store=str(folder.store),
        run_tracking_uri=folder.tracking_uri,
    )
    folder.progress.unlink(missing_ok=True)
    shutil.rmtree(folder.kfp, ignore_errors=True)  # references only: what they name lies in the store
    argv = [sys.executable, "-m", "pipelines.kfp_local", str(folder.pipeline), str(folder.kfp), str(folder.result)]
    done = threading.Event()
    live = LiveProgress(folder.progress, console)
    watcher = threading.Thread(target=live.follow, args=(done,))
    watcher.start()
    try:
        env = {**os.environ, **_QUIET, VARIABLE: str(folder.progress)}
        run_child(argv, env=env, log=folder.pipeline_log, cwd=folder.root)
    except ChildFailed:
        _close(folder, settings, started.name, "FAILED", console)
        raise RunFailed(
            f"{failure(folder.pipeline_log, folder.progress)}\nThe whole log: {folder.pipeline_log}"
        ) from None
    except KeyboardInterrupt:
        _close(folder, settings, started.name, "KILLED", console)
        raise
    finally:
        done.set()
        watcher.join()
    # the report closed the run; nothing happens if nothing waits
    _tell(lambda: send(_context(folder, settings, started.name)), console)
    bring_out(folder)


def _close(folder: RunFolder, settings: RunSettings, name: str, status: str, console: Console) -> None:
    """Let the store and MLflow show that the run is not at work any more; it is opened again when it continues."""
    end_run(open_store(str(folder.store)), name, status)
    if (folder.root.parent / "mlflow.db").is_file():
        _tell(lambda: finish_parent(_context(folder, settings, name), status), console)


def _tell(track: Callable[[], Sequence[str]], console: Console) -> None:
    """Show what MLflow did not take as lines of their own, not as Python's warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrackingWarning)
        for text in track():
            console.print(f"MLflow: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def _context(folder: RunFolder, settings: RunSettings, name: str) -> StepContext:
    return StepContext(
        store=str(folder.store),
        run_name=name,
        tracking_uri=folder.tracking_uri,
        experiment=settings.pipeline.experiment,
    )


def bring_out(folder: RunFolder) -> None:
    """Copy the report, the summary and the plots from the store to the run's folder."""
    ref = ArtifactRef.model_validate_json(folder.result.read_text())
    shutil.copytree(open_store(str(folder.store)).get(ref), folder.root, dirs_exist_ok=True)
    (folder.root / "manifest.json").unlink(missing_ok=True)
