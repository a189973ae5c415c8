"""The progress of a local run on the terminal: a line for each finished step, a bar for the loop that runs."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from components.shared.progress import read_events, speed_text

_POLL_SECONDS = 0.3
_INSTANT = 1.0  # seconds: a step that took less found its work done


class LiveProgress:
    """Shows the events that a run's steps append to a file."""

    def __init__(self, events: Path, console: Console) -> None:
        self.events, self.console = events, console
        self._offset = 0
        self._loops: dict[tuple[int, str], TaskID] = {}
        self._began: dict[tuple[int, str], float] = {}

    def follow(self, done: threading.Event) -> None:
        """Show events as they come, until `done` is set."""
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TextColumn("{task.fields[speed]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as bars:
            step = bars.add_task("starting", total=None, unit="", speed="")
            while not done.is_set():
                self._show_new(bars, step)
                time.sleep(_POLL_SECONDS)
            self._show_new(bars, step)

    def _show_new(self, bars: Progress, step: TaskID) -> None:
        events, self._offset = read_events(self.events, self._offset)
        for event in events:
            kind = event["event"]
            if kind == "step_started":
                bars.update(step, description=str(event["step"]))
            elif kind == "step_finished":
                seconds = float(str(event["seconds"]))
                took = f"{seconds:6.1f} s" if seconds >= _INSTANT else "   done "
                bars.print(f"[green]✓[/green] {event['step']!s:<28}{took}  {event['note']}", highlight=False)
                for loop in self._loops.values():
                    bars.remove_task(loop)
                self._loops.clear()
            else:
                self._show_loop(bars, event)

    def _show_loop(self, bars: Progress, event: dict[str, object]) -> None:
        name = (int(str(event["pid"])), str(event["label"]))
        if event["event"] == "end":
            if name in self._loops:
                bars.remove_task(self._loops.pop(name))
            return
        if name not in self._loops:
            total = int(str(event["total"]))
            self._loops[name] = bars.add_task(f"  {event['label']}", total=total, unit=str(event["unit"]), speed="")
            self._began[name] = float(str(event["time"]))
        done = int(str(event["done"]))
        speed = speed_text(done, float(str(event["time"])) - self._began[name])
        bars.update(self._loops[name], completed=done, speed=speed)
