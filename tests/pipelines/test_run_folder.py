"""A run's folder: one run at a time, continued only by the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.run_folder import RunFolder, RunRefused
from pipelines.settings import RunSettings, build_settings


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    with RunFolder(tmp_path).locked(), pytest.raises(RunRefused, match="another run"), RunFolder(tmp_path).locked():
        pass


def test_the_same_settings_continue_under_the_same_name(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).start(RunSettings()) == RunFolder(tmp_path).start(RunSettings())


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    RunFolder(tmp_path).start(RunSettings())
    with pytest.raises(RunRefused, match=r"training\.beta: was 0\.1, now 0\.2"):
        RunFolder(tmp_path).start(build_settings({"training.beta": 0.2}))


def test_changed_data_is_refused_by_name(tmp_path: Path) -> None:
    data = tmp_path / "annotations.jsonl"
    data.write_text("{}\n")
    settings = build_settings({"ingest.annotations": str(data)})
    RunFolder(tmp_path / "run").start(settings)
    data.write_text("{ }\n")
    with pytest.raises(RunRefused, match=r"ingest\.annotations: its content changed"):
        RunFolder(tmp_path / "run").start(settings)


def test_changed_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunFolder(tmp_path).start(RunSettings())
    monkeypatch.setattr("pipelines.run_folder.code_version", lambda: "other")
    with pytest.raises(RunRefused, match="code changed"):
        RunFolder(tmp_path).start(RunSettings())


def test_more_rounds_continue_a_finished_run_and_fewer_are_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.start(build_settings({"pipeline.rounds": 2}))
    folder.result.write_text("{}")
    assert folder.finished()
    folder.start(build_settings({"pipeline.rounds": 3}))
    assert not folder.finished()
    with pytest.raises(RunRefused, match=r"pipeline\.rounds"):
        folder.start(build_settings({"pipeline.rounds": 2}))


def test_fresh_removes_the_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.start(RunSettings())
    folder.clear()
    assert folder.started_with() is None
