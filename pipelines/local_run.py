"""A run on this machine: compile, start kfp's local runner, show its progress, bring the report out."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from pathlib import Path

from rich.console import Console

from components.shared.processes import ChildFailed, run_child
from components.shared.progress import VARIABLE
from components.shared.schemas import ArtifactRef
from components.shared.store import open_store
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
        raise RunFailed(f"{failure(folder.pipeline_log)}\nThe whole log: {folder.pipeline_log}") from None
    finally:
        done.set()
        watcher.join()
    bring_out(folder)


def failure(log: Path) -> str:
    """The error that a run's log ends with: the last exception that a task printed, else its last lines."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    task = next((line for line in reversed(lines) if "Inner task failed" in line or "finished with status" in line), "")
    starts = [index for index, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    for start in starts:
        for index in range(start, len(lines)):
            if _is_exception(lines[index]):
                block = lines[index : index + 12]
                end = next((i for i, line in enumerate(block) if "finished with status" in line), len(block))
                return "\n".join(block[:end])
    return task or "\n".join(lines[-12:])


def _is_exception(line: str) -> bool:
    name, separator, _ = line.partition(":")
    return bool(separator) and " " not in name and name.rpartition(".")[2][:1].isupper()


def bring_out(folder: RunFolder) -> None:
    """Copy the report, the summary and the plots from the store to the run's folder."""
    ref = ArtifactRef.model_validate_json(folder.result.read_text())
    shutil.copytree(open_store(str(folder.store)).get(ref), folder.root, dirs_exist_ok=True)
    (folder.root / "manifest.json").unlink(missing_ok=True)
