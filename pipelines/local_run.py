"""A run on this machine: compile, start kfp's local runner, show its progress, bring the report out."""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
from pathlib import Path

from rich.console import Console

from components.shared.context import StepContext
from components.shared.processes import ChildFailed, run_child
from components.shared.progress import VARIABLE
from components.shared.schemas import ArtifactRef
from components.shared.store import open_store
from components.shared.tracking import finish_parent
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


_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Failed|Refused|Interrupt|Figure|Unusable)\b")
_INPUT = re.compile(r"""\s*["{}\[\]]|.*",?$|.* - INFO - """)  # what kfp prints of a task, its input as JSON
_TOLD_LINES = 40


class RunFailed(RuntimeError):
    """A task of the run failed; the message has the error it ended with and names the log."""


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
        _close_tracking(folder, settings, started.name, "FAILED")
        raise RunFailed(f"{failure(folder.pipeline_log)}\nThe whole log: {folder.pipeline_log}") from None
    except KeyboardInterrupt:
        _close_tracking(folder, settings, started.name, "KILLED")
        raise
    finally:
        done.set()
        watcher.join()
    bring_out(folder)


def _close_tracking(folder: RunFolder, settings: RunSettings, name: str, status: str) -> None:
    """Let MLflow show that the run is not at work any more; it is opened again when it continues."""
    if not (folder.root.parent / "mlflow.db").is_file():
        return
    context = StepContext(
        store=str(folder.store),
        run_name=name,
        tracking_uri=folder.tracking_uri,
        experiment=settings.pipeline.experiment,
    )
    finish_parent(context, status)


def failure(log: Path) -> str:
    """What went wrong, by a run's log: the failed task and the exception that it ended with.

    Without an exception the task's process was killed or crashed: the log's last lines are told, but not what kfp shows
    of its input.
    """
    lines = [_plain(line) for line in log.read_text(errors="replace").splitlines()]
    failed = next((i for i, line in enumerate(lines) if line.endswith("finished with status FAILURE")), len(lines))
    task = lines[failed].partition("Task ")[2].partition(" finished")[0] if failed < len(lines) else "the pipeline"
    told = [line for line in lines[:failed] if line.strip()][-_TOLD_LINES:]
    starts = [i for i, line in enumerate(told) if _EXCEPTION.match(line)]
    if starts:
        return f"{task} failed:\n" + "\n".join(told[starts[-1] :])
    said = [line for line in told if not _INPUT.match(line)]
    return "\n".join(
        [f"{task} failed: its process ended without an error of its own (killed, or out of memory?)", *said]
    )


def _plain(line: str) -> str:
    """Without colours and without what engines and kfp put before a line."""
    return re.sub(r"^(\[rank\d+\]: ?)", "", re.sub(r"\x1b\[[0-9;]*m", "", line).removeprefix("    "))


def bring_out(folder: RunFolder) -> None:
    """Copy the report, the summary and the plots from the store to the run's folder."""
    ref = ArtifactRef.model_validate_json(folder.result.read_text())
    shutil.copytree(open_store(str(folder.store)).get(ref), folder.root, dirs_exist_ok=True)
    (folder.root / "manifest.json").unlink(missing_ok=True)
