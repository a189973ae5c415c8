"""The ledger: finished work is found again by its inputs, unfinished work goes on from its chunks."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.shared.ledger import Ledger, Outputs, code_version
from components.shared.store import FolderStore


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(FolderStore(tmp_path))


def test_a_key_changes_with_each_of_its_parts(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    base = ledger.key("step", {"a": "1"}, {"x": 1}, 0)
    assert ledger.key("step", {"a": "1"}, {"x": 1}, 0) == base
    others = [
        ledger.key("other", {"a": "1"}, {"x": 1}, 0),
        ledger.key("step", {"a": "2"}, {"x": 1}, 0),
        ledger.key("step", {"a": "1"}, {"x": 2}, 0),
        ledger.key("step", {"a": "1"}, {"x": 1}, 1),
    ]
    monkeypatch.setattr("components.shared.ledger.code_version", lambda: "other code")
    others.append(ledger.key("step", {"a": "1"}, {"x": 1}, 0))
    assert base not in others and len(set(others)) == len(others)


def test_finished_work_is_found_and_its_chunks_are_gone(ledger: Ledger) -> None:
    ledger.chunk("k", "0", lambda: b"data")
    assert ledger.finished("k") is None
    done = ledger.finish("k", Outputs(results={"reward": 1.5}, seconds=2.0))
    assert ledger.finished("k") == done and done.results["reward"] == 1.5
    assert ledger.store.list_objects("work/k") == []


def test_a_chunk_is_made_once(ledger: Ledger) -> None:
    assert ledger.chunk("k", "0", lambda: b"first") == b"first"
    assert ledger.chunk("k", "0", lambda: pytest.fail("made twice")) == b"first"


def test_a_chunk_that_failed_leaves_nothing(ledger: Ledger) -> None:
    with pytest.raises(ZeroDivisionError):
        ledger.chunk("k", "0", lambda: bytes(1 // 0))
    assert ledger.chunk("k", "0", lambda: b"now") == b"now"


def test_finishing_records_the_engines_of_this_process_beside_those_that_are_told(ledger: Ledger) -> None:
    done = ledger.finish("k", Outputs(results={"engines": {"decord": "0.6.0"}}))
    assert done.results["engines"]["decord"] == "0.6.0"


def test_the_code_version_covers_every_file_of_the_steps() -> None:
    assert len(code_version()) == 64
