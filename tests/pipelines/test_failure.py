from __future__ import annotations

from pathlib import Path

from pipelines.local_run import failure


def test_a_killed_task_is_named_without_the_input_that_kfp_prints(tmp_path: Path) -> None:
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
    told = failure(log).splitlines()
    assert told[0].startswith("'train-policy' failed: its process ended without an error of its own")
    assert told[1:] == ["compiling a kernel"]


def test_a_failed_task_is_named_with_its_exception(tmp_path: Path) -> None:
    log = tmp_path / "pipeline.log"
    log.write_text(
        "    Traceback (most recent call last):\n"
        '      File "step.py", line 1, in <module>\n'
        "    components.ingest.errors.IngestError: nothing is left\n"
        "    each row names a video that is missing\n"
        "12:00:01 - INFO - Task 'ingest-data' finished with status FAILURE\n"
    )
    assert failure(log) == (
        "'ingest-data' failed:\ncomponents.ingest.errors.IngestError: nothing is left\n"
        "each row names a video that is missing"
    )
