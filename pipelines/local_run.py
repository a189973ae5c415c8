"""A run on this machine: compile, start kfp's local runner, show its progress, bring the report out."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from components.ingest.settings import MOVING_SHAPES, REGISTRY, TINY
from components.shared.context import StepContext
from components.shared.processes import ChildFailed, run_child
from components.shared.progress import VARIABLE
from components.shared.runs import end_run
from components.shared.schemas import ArtifactRef
from components.shared.store import StoreError, StoreSettings
from components.shared.tracking import TrackingWarning, finish_parent, send
from components.shared.tracking.client import sqlite_path
from pipelines.containers.engine import check_images, engine, is_rootless_podman, stop_containers
from pipelines.containers.runner import InContainers
from pipelines.failures import failure
from pipelines.live import LiveProgress
from pipelines.run_folder import RunFolder, RunRefused
from pipelines.settings import RunSettings

# Engines that talk to the terminal, look for hubs, or send usage reports are told not to.
_QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "KFP_DISABLE_EXECUTION_CACHING_BY_DEFAULT": "true",
    "PYTHONWARNINGS": "ignore",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_NO_USAGE_STATS": "1",
}

_LAST_WORD = StoreSettings(patience=20)


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


def run_locally(folder: RunFolder, settings: RunSettings, console: Console, containers: bool = False) -> None:
    """Run the pipeline in `folder` to its end, every task as a process or in a container of its image.

    What is finished there already is not done again. Raises RunFailed if a task fails, and KeyboardInterrupt on Ctrl-C;
    no process and no container is left in either case.
    """
    from pipelines.dag import compile_pipeline

    started = folder.start(settings)
    compile_pipeline(
        settings,
        folder.pipeline,
        cluster=False,
        run_name=started.name,
        run_store=folder.store,
        run_tracking_uri=folder.tracking_uri,
    )
    folder.progress.unlink(missing_ok=True)
    shutil.rmtree(folder.kfp, ignore_errors=True)  # references only: what they name lies in the store
    argv = [sys.executable, "-m", "pipelines.kfp_local", str(folder.pipeline), str(folder.kfp), str(folder.result)]
    place: contextlib.AbstractContextManager[Sequence[str]] = contextlib.nullcontext(())
    if containers:
        place = _containers(folder, settings, started.name)
    with place as further:
        _run(folder, settings, started.name, [*argv, *further], console)
    # the report closed the run; nothing happens if nothing waits
    _tell(lambda: send(_context(folder, settings, started.name)), console)
    bring_out(folder)


@contextlib.contextmanager
def _containers(folder: RunFolder, settings: RunSettings, name: str) -> Iterator[Sequence[str]]:
    """The further argument of the runner. Containers of the run are ended before and after: its steps resume."""
    if os.getuid() == 0 and folder.root.is_relative_to("/root"):
        raise RunRefused(
            f"--output {folder.root}: containers do not run as root, and may not enter /root; give a folder elsewhere"
        )
    with engine() as client:
        check_images(client)
        given = [
            str(getattr(settings.ingest, field)).rpartition(" else ")[2] for field in ("annotations", "videos", "model")
        ]
        shared = InContainers(
            run=name,
            events=folder.progress,
            kernels=folder.root / "kernels",
            inputs=tuple(path for path in map(Path, given) if path.is_absolute() and path.exists()),
            rootless_podman=is_rootless_podman(client),
        )
        shared.prepare(folder.kfp)
        stop_containers(client, name)
        try:
            yield (shared.model_dump_json(),)
        finally:
            stop_containers(client, name)


def _run(folder: RunFolder, settings: RunSettings, name: str, argv: Sequence[str], console: Console) -> None:
    """Run the process that runs the tasks, and show their progress."""
    done = threading.Event()
    live = LiveProgress(folder.progress, console)
    watcher = threading.Thread(target=live.follow, args=(done,))
    watcher.start()
    try:
        env = {**os.environ, **_QUIET, VARIABLE: str(folder.progress)}
        run_child(argv, env=env, log=folder.pipeline_log, cwd=folder.root)
    except ChildFailed:
        _close(folder, settings, name, "FAILED", console)
        raise RunFailed(
            f"{failure(folder.pipeline_log, folder.progress)}\nThe whole log: {folder.pipeline_log}"
        ) from None
    except KeyboardInterrupt:
        _close(folder, settings, name, "KILLED", console)
        raise
    finally:
        done.set()
        watcher.join()


def _close(folder: RunFolder, settings: RunSettings, name: str, status: str, console: Console) -> None:
    """Let the store and MLflow show that the run is not at work any more; it is opened again when it continues.

    Whoever pressed Ctrl-C does not wait long for a store that is gone, and is told.
    """
    context = _context(folder, settings, name).model_copy(update={"store_settings": _LAST_WORD})
    database = sqlite_path(folder.tracking_uri)
    try:
        end_run(context.open_store(), name, status)
        if database is None or database.is_file():
            _tell(lambda: finish_parent(context, status), console)
    except StoreError as error:
        console.print(f"The store does not know that the run has stopped: {error}", style="yellow", markup=False)


def _tell(track: Callable[[], Sequence[str]], console: Console) -> None:
    """Show what MLflow did not take as lines of their own, not as Python's warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrackingWarning)
        for text in track():
            console.print(f"MLflow: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def _context(folder: RunFolder, settings: RunSettings, name: str) -> StepContext:
    return StepContext(
        store=folder.store,
        run_name=name,
        tracking_uri=folder.tracking_uri,
        experiment=settings.pipeline.experiment,
    )


def bring_out(folder: RunFolder) -> None:
    """Copy the report, the summary and the plots from the store to the run's folder."""
    ref = ArtifactRef.model_validate_json(folder.result.read_text())
    shutil.copytree(folder.open_store().get(ref), folder.root, dirs_exist_ok=True)
    (folder.root / "manifest.json").unlink(missing_ok=True)
