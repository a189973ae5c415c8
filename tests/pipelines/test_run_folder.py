"""A run's folder: one run at a time, continued only by the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.shared.ledger import Ledger, Outputs
from pipelines.run_folder import RunFolder, RunRefused
from pipelines.settings import RunSettings, build_settings


def ingested(root: Path, *settings: RunSettings) -> RunFolder:
    """The folder of a run that was started with `settings` and whose ingest is finished, by its record in the ledger."""
    folder = RunFolder(root)
    name = folder.start(*settings or [RunSettings()]).name
    ledger = Ledger(folder.open_store(), name)
    ledger.finish(ledger.key("ingest", {}, {}, 0), Outputs())
    return folder


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    with RunFolder(tmp_path).locked(), pytest.raises(RunRefused, match="another run"), RunFolder(tmp_path).locked():
        pass


def test_the_same_settings_continue_under_the_same_name(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).start(RunSettings()) == RunFolder(tmp_path).start(RunSettings())


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    ingested(tmp_path)
    with pytest.raises(RunRefused, match=r"training\.beta: was 0\.1, now 0\.2"):
        RunFolder(tmp_path).start(build_settings({"training.beta": 0.2}))


def test_changed_data_is_refused_by_name(tmp_path: Path) -> None:
    data = tmp_path / "annotations.jsonl"
    data.write_text("{}\n")
    settings = build_settings({"ingest.annotations": str(data)})
    folder = ingested(tmp_path / "run", settings)
    data.write_text("{ }\n")
    with pytest.raises(RunRefused, match=r"ingest\.annotations: its content changed"):
        folder.start(settings)


def test_other_annotations_are_named_once(tmp_path: Path) -> None:
    folder = ingested(tmp_path)
    with pytest.raises(RunRefused) as refused:
        folder.start(build_settings({"ingest.annotations": "other.jsonl"}))
    assert str(refused.value).count("ingest.annotations") == 1


def test_a_run_that_never_finished_its_ingest_is_replaced_by_another(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    first = folder.start(RunSettings())
    second = folder.start(build_settings({"training.beta": 0.2, "ingest.annotations": "other.jsonl"}))
    assert folder.started_with() == second != first


def test_changed_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ingested(tmp_path)
    monkeypatch.setattr("pipelines.run_folder.code_version", lambda: "other")
    with pytest.raises(RunRefused, match="code changed"):
        RunFolder(tmp_path).start(RunSettings())


def test_more_rounds_continue_a_finished_run_and_fewer_are_refused(tmp_path: Path) -> None:
    folder = ingested(tmp_path, build_settings({"pipeline.rounds": 2}))
    folder.result.write_text("{}")
    assert folder.finished()
    folder.start(build_settings({"pipeline.rounds": 3}))
    assert not folder.finished()
    with pytest.raises(RunRefused, match=r"pipeline\.rounds"):
        folder.start(build_settings({"pipeline.rounds": 2}))


def test_other_shards_continue_a_run(tmp_path: Path) -> None:
    before = {"pipeline.fuse_sampling": False, "pipeline.shards": 3}
    folder = ingested(tmp_path, build_settings(before))
    now = folder.start(build_settings(before | {"pipeline.shards": 1, "pipeline.evaluation_shards": 2}))
    assert folder.started_with() == now
    with pytest.raises(RunRefused, match=r"pipeline\.fuse_sampling"):
        folder.start(build_settings({}))


def test_fresh_removes_the_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.start(RunSettings())
    folder.clear()
    assert folder.started_with() is None


def test_what_became_of_a_run_is_said_with_its_step(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(RunRefused, match="there is no run; start one"):
        folder.require_finished()
    with folder.locked():
        folder.start(RunSettings())
        folder.logs.mkdir()
        begun = [{"event": "step_started", "step": step} for step in ("ingest", "training, round 1")]
        ended = {"event": "step_finished", "step": "ingest"}
        folder.progress.write_text("".join(json.dumps(event) + "\n" for event in (begun[0], ended, begun[1])))
        with pytest.raises(RunRefused, match="still at work, in training, round 1"):
            folder.require_finished()
    with pytest.raises(RunRefused, match="stopped before its end, in training, round 1"):
        folder.require_finished()
    folder.result.write_text("{}")
    folder.require_finished()
