"""A step of the training room in a process of its own, killed at every checkpoint that it writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from components.shared.context import StepContext
from components.shared.schemas import ArtifactRef
from components.shared.settings import StepSettings
from components.shared.store import Store

_STEP = """
import json, sys
from components.shared.context import StepContext
from components.shared.schemas import ArtifactRef
from components.training.settings import TrainingSettings
from components.training.step import train
from components.training.warmup import warm_up
from components.training.warmup_settings import WarmupSettings
given = json.loads(sys.argv[1])
arguments = {name: ArtifactRef.model_validate(ref) for name, ref in given["refs"].items()}
arguments["context"] = StepContext.model_validate(given["context"])
models = {"train": {"settings": TrainingSettings}, "warm_up": {"settings": WarmupSettings, "training": TrainingSettings}}
for name, model in models[given["step"]].items():
    arguments[name] = model.model_validate(given["settings"][name])
{"train": train, "warm_up": warm_up}[given["step"]](**arguments)
"""


def kill_at_every_checkpoint(
    step: str, refs: dict[str, ArtifactRef], context: StepContext, **settings: StepSettings
) -> int:
    """Run `train` or `warm_up` to its end, with SIGKILL whenever there is a new checkpoint; returns how often."""
    store = context.open_store()
    given = json.dumps(
        {
            "step": step,
            "refs": {name: ref.model_dump() for name, ref in refs.items()},
            "context": context.model_dump(),
            "settings": {name: item.model_dump() for name, item in settings.items()},
        }
    )
    seen: dict[str, Any] = {}
    for kills in range(100):
        root = str(Path(__file__).parents[1])
        process = subprocess.Popen([sys.executable, "-c", _STEP, given], cwd=root, start_new_session=True)
        try:
            while process.poll() is None and _checkpoints(store) in (seen, {}):
                time.sleep(0.02)
            seen = _checkpoints(store)
            if process.poll() is not None:
                assert process.returncode == 0
                return kills
            below = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, signal.SIGKILL)
        finally:
            process.wait()
        deadline = time.monotonic() + 60
        while any(_lives(child) for child in below):
            assert time.monotonic() < deadline, "a worker outlived the step"
            time.sleep(0.1)
    raise AssertionError("the step does not come to its end")


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _checkpoints(store: Store) -> dict[str, bytes | None]:
    names = [name for name in store.list_objects("work") if name.endswith("/checkpoint.json")]
    return {name: store.read_object(name) for name in names}
