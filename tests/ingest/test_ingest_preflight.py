"""What is wrong with local inputs is said before a run makes anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.ingest.errors import IngestError
from components.ingest.preflight import check_local_inputs
from components.ingest.settings import IngestSettings


def test_good_inputs_pass_and_leave_nothing(settings_for, ask, tmp_path):
    settings = settings_for([ask("small.mp4"), ask("fast.mp4", split="L1")])
    before = sorted(tmp_path.rglob("*"))
    check_local_inputs(settings)
    check_local_inputs(IngestSettings())
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"annotations": "/nowhere/a.jsonl"}, ["ingest.annotations", "/nowhere/a.jsonl", "no such file"]),
        ({"videos": "/nowhere"}, ["ingest.videos", "/nowhere", "no such folder"]),
        ({"model": "/nowhere/model"}, ["ingest.model", "/nowhere/model", "is no folder"]),
        ({"model": "org/name"}, ["ingest.model", "'org/name'", "ingest.model_revision"]),
        ({"annotations": "moving-shapes", "videos": "/data"}, ["ingest.videos", "/data", "annotations of your own"]),
        ({"annotation_format": "coco"}, ["ingest.annotation_format", "'coco'"]),
    ],
)
def test_a_wrong_path_or_name_is_told_with_its_setting(settings_for, ask, change, words):
    settings = settings_for([ask("small.mp4")]).model_copy(update=change)
    with pytest.raises(IngestError) as caught:
        check_local_inputs(settings)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(("split", "words"), [("train", "evaluate on.*'L1'"), ("L1", "train on.*set `split`")])
def test_data_without_a_split_that_a_run_needs_are_refused(settings_for, ask, split, words):
    with pytest.raises(IngestError, match=rf"nothing is left to {words}"):
        check_local_inputs(settings_for([ask("small.mp4", split=split)]))


def test_a_folder_is_no_annotations_and_a_file_no_videos_folder(settings_for, ask, tmp_path):
    settings = settings_for([ask("small.mp4")])
    with pytest.raises(IngestError, match="ingest.annotations: .*there is no such file"):
        check_local_inputs(settings.model_copy(update={"annotations": str(tmp_path)}))
    with pytest.raises(IngestError, match="ingest.videos: .*cannot be read as a folder"):
        check_local_inputs(settings.model_copy(update={"videos": settings.annotations}))


def test_the_wrong_kind_of_file_is_told_what_annotations_are(settings_for, ask, tmp_path):
    table = tmp_path / "a.csv"
    table.write_text("video,question\n")
    with pytest.raises(IngestError, match=r"ingest.annotations: .*a.csv ends in '.csv'; annotations are"):
        check_local_inputs(settings_for([ask("small.mp4")]).model_copy(update={"annotations": str(table)}))


@pytest.mark.parametrize(
    ("name", "words"), [("config.json", "has no config.json"), ("model.safetensors", "needs .safetensors weights")]
)
def test_a_model_folder_without_its_parts_is_refused(settings_for, ask, policy_folder: Path, name, words):
    (policy_folder / name).unlink()
    with pytest.raises(IngestError, match=words):
        check_local_inputs(settings_for([ask("small.mp4")]).model_copy(update={"model": str(policy_folder)}))


def test_a_frame_size_that_the_model_cannot_take_is_refused(settings_for, ask, policy_folder: Path):
    vision = {"patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2}
    (policy_folder / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl", "vision_config": vision}))
    with pytest.raises(IngestError, match="ingest.frame_size: 56 is not a multiple of 32"):
        check_local_inputs(settings_for([ask("small.mp4")]).model_copy(update={"model": str(policy_folder)}))


def test_videos_that_are_all_missing_are_found_before_the_run(settings_for, ask, tmp_path):
    settings = settings_for([ask("small.mp4"), ask("fast.mp4")]).model_copy(update={"videos": str(tmp_path)})
    with pytest.raises(IngestError, match="2 of 2 samples cannot be used, and ingest.max_quarantine_fraction"):
        check_local_inputs(settings)
