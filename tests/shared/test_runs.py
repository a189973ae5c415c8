"""What a store knows of its runs: begin, end, signs of life, the work they asked for."""

from __future__ import annotations

import time
from pathlib import Path

from components.shared.context import StepContext
from components.shared.ledger import Outputs, read_ledger
from components.shared.runs import SignsOfLife, begin_run, end_run, forget_run, read_runs
from components.shared.store import FolderStore
from tests.waiting import wait_for


def test_a_run_begins_ends_and_begins_again_when_it_is_continued(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    end_run(store, "never began", "FAILED")
    assert read_runs(store) == []
    begin_run(store, "a/b c..")
    (run,) = read_runs(store)
    assert (run.record.name, run.record.ended, run.work) == ("a/b c..", "", frozenset())
    end_run(store, "a/b c..", "FINISHED")
    (ended,) = read_runs(store)
    assert ended.record.ended and ended.record.status == "FINISHED"
    begin_run(store, "a/b c..")
    (again,) = read_runs(store)
    assert again.record.ended == "" and again.record.started == run.record.started
    forget_run(store, "a/b c..")
    assert read_runs(store) == []


def test_no_run_s_name_reaches_outside_its_folder(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    for name in ("..", ".", "../../x"):
        begin_run(store, name)
    assert {run.record.name for run in read_runs(store)} == {"..", ".", "../../x"}
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_run_is_seen_as_long_as_a_step_is_at_work(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    signs = SignsOfLife(store, "run", seconds=0.05)
    first = read_runs(store)[0].seen
    wait_for(lambda: read_runs(store)[0].seen > first)
    signs.stop()
    last = read_runs(store)[0].seen
    time.sleep(0.3)
    assert read_runs(store)[0].seen == last


def test_the_ledger_notes_work_for_its_run_before_it_looks_for_it_and_records_who_made_what(tmp_path: Path) -> None:
    context = StepContext(store=str(tmp_path), run_name="run", round=3)
    ledger = context.open_ledger()
    key = ledger.key("training", {"policy": "d1"}, {}, 7)
    assert ledger.finished(key) is None
    assert read_runs(ledger.store)[0].work == {key}
    ledger.finish(key, Outputs())
    work = read_ledger(ledger.store)[key].work
    assert (work.step, work.inputs, work.seed, work.run, work.round) == ("training", {"policy": "d1"}, 7, "run", 3)
    other = context.model_copy(update={"run_name": "other"}).open_ledger()
    assert other.finished(key) is not None
    assert {run.record.name: set(run.work) for run in read_runs(other.store)} == {"run": {key}, "other": {key}}
