"""What a failed run says, from the log that kfp and the steps left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.failures import failure


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "progress.jsonl"
    path.write_text(json.dumps({"event": "step_started", "step": "training, round 1"}) + "\n")
    return path


def test_a_killed_step_is_named_without_the_input_that_kfp_prints(tmp_path: Path, events: Path) -> None:
    log = tmp_path / "pipeline.log"
    log.write_text(
        "12:00:00 - INFO - Executing task 'train-policy'\n"
        "    [KFP Executor INFO]: Looking for component\n"
        '                        "type": {\n'
        '                            "schemaTitle": "system.Artifact"\n'
        "                        },\n"
        '5225/train-policy/new_policy",\n'
        "    compiling a kernel\n"
        "12:00:01 - INFO - Task 'train-policy' finished with status FAILURE\n"
    )
    told = failure(log, events).splitlines()
    assert told[0].startswith("training, round 1 failed: its process ended without an error of its own")
    assert told[1:] == ["compiling a kernel"]


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("components.ingest.errors.IngestError: nothing is left", "nothing is left"),
        ("torch.OutOfMemoryError: nothing is left", "OutOfMemoryError: nothing is left"),
        ("RuntimeError: nothing is left", "RuntimeError: nothing is left"),
    ],
)
def test_a_failed_step_is_named_with_its_error_and_only_a_foreign_ones_class(
    tmp_path: Path, events: Path, raised: str, said: str
) -> None:
    log = tmp_path / "pipeline.log"
    log.write_text(
        "    Traceback (most recent call last):\n"
        '      File "step.py", line 1, in <module>\n'
        f"    {raised}\n"
        "    each row names a video that is missing\n"
        "12:00:01 - INFO - Task 'train-policy' finished with status FAILURE\n"
    )
    assert failure(log, events) == f"training, round 1 failed: {said}\neach row names a video that is missing"
