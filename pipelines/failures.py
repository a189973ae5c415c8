"""What went wrong in a local run, in the words that a user needs: read from the log and the events of its steps."""

from __future__ import annotations

import re
from pathlib import Path

from components.shared.progress import read_events

_EXCEPTION = re.compile(
    r"(?P<module>(?:[A-Za-z_]\w*\.)*)"
    r"(?P<name>\w*(?:Error|Exception|Failed|Refused|Interrupt|Figure|Unusable)\b)(?:: )?(?P<text>.*)"
)
_OWN = ("components.", "pipelines.")  # whose exceptions are written for the user: their class adds nothing
_INPUT = re.compile(r"""\s*["{}\[\]]|.*",?$|.* - INFO - """)  # what kfp prints of a task, its input as JSON
_TOLD_LINES = 40


def failure(log: Path, events: Path) -> str:
    """What went wrong, by a run's log: the step that was at work and the exception that it ended with.

    Without an exception the step's process was killed or crashed: the log's last lines are told, but not what kfp shows
    of its input.
    """
    step = step_at_work(events) or "the pipeline"
    lines = [_plain(line) for line in log.read_text(errors="replace").splitlines()]
    failed = next((i for i, line in enumerate(lines) if line.endswith("finished with status FAILURE")), len(lines))
    told = [line for line in lines[:failed] if line.strip()][-_TOLD_LINES:]
    starts = [(i, found) for i, line in enumerate(told) if (found := _EXCEPTION.match(line))]
    if starts:
        start, found = starts[-1]
        said = found["text"] if found["module"].startswith(_OWN) else f"{found['name']}: {found['text']}"
        return "\n".join([f"{step} failed: {said}", *told[start + 1 :]])
    said_last = [line for line in told if not _INPUT.match(line)]
    return "\n".join(
        [f"{step} failed: its process ended without an error of its own (killed, or out of memory?)", *said_last]
    )


def step_at_work(events: Path) -> str:
    """The step that began last and has not ended, by the run's events; empty if there is none."""
    open_steps: dict[str, None] = {}
    for event in read_events(events)[0]:
        if event["event"] == "step_started":
            open_steps[str(event["step"])] = None
        elif event["event"] == "step_finished":
            open_steps.pop(str(event["step"]), None)
    return next(reversed(open_steps), "")


def _plain(line: str) -> str:
    """Without colours and without what engines and kfp put before a line."""
    return re.sub(r"^(\[rank\d+\]: ?)", "", re.sub(r"\x1b\[[0-9;]*m", "", line).removeprefix("    "))
