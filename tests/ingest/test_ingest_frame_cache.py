"""Frames are kept from one ingest to the next, by content and sampling, within a bound."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from components.ingest.decode_pool import DecodeWorker
from components.ingest.frame_cache import FRAMES, USES, FrameCache, entry_name
from components.ingest.step import ingest
from components.shared.context import StepContext
from components.shared.dataset import DatasetReader
from components.shared.store import FolderStore

RECIPE = {"frame_size": 56}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operations that decode workers are asked for."""
    found: list[str] = []
    ask = DecodeWorker.ask

    def noted(self: DecodeWorker, timeout: float, **request: object) -> dict[str, object]:
        found.append(str(request["operation"]))
        return ask(self, timeout, **request)

    monkeypatch.setattr(DecodeWorker, "ask", noted)
    return found


def test_other_annotations_of_the_same_videos_decode_nothing_again(settings_for, context, ask, asked):
    first = ingest(settings_for([ask("small.mp4"), ask("fast.mp4", image="picture.png")]), context)
    assert asked.count("video") == 2 and asked.count("image") == 1 and first.results["files_decoded"] == 3
    asked.clear()
    rows = [ask("fast.mp4", question="Another?", image="picture.png"), ask("small.mp4", question="And this?")]
    second = ingest(settings_for(rows), context)
    assert asked == ["digest"] * 3 and second.results["files_decoded"] == 0
    frames = [
        {name: reader.frames(name).tobytes() for name in ("small.mp4", "fast.mp4", "picture.png")}
        for reader in (DatasetReader(context.open_store().get(out.artifacts["dataset"])) for out in (first, second))
    ]
    assert frames[0] == frames[1]


@pytest.mark.parametrize(
    "change", [{"num_frames": 4}, {"frame_size": 84}, {"decoder": "pyav"}, {"frame_indices": "stride"}]
)
def test_other_sampling_decodes_anew(settings_for, context, ask, asked, change):
    ingest(settings_for([ask("small.mp4")]), context)
    ingest(settings_for([ask("small.mp4")], **change), context)
    assert asked.count("video") == 2


def test_copies_and_clips_of_a_file_are_decoded_once_each(settings_for, context, ask, asked, tmp_path, media):
    rows = [ask("fast.mp4"), ask("copy.mp4"), ask("fast.mp4#t=0,1"), ask("fast.mp4#t=0,1", question="Why?")]
    settings = settings_for(rows, max_quarantine_fraction=0)
    (tmp_path / "data" / "copy.mp4").write_bytes((media / "fast.mp4").read_bytes())
    outputs = ingest(settings, context)
    assert asked.count("video") == 2 and outputs.results["files_decoded"] == 2
    dataset = DatasetReader(context.open_store().get(outputs.artifacts["dataset"]))
    assert dataset.frames_record("fast.mp4#t=0,1").duration == pytest.approx(1.0, abs=1e-3)
    assert dataset.frames_record("fast.mp4").duration == pytest.approx(2.0, abs=1e-3)


def test_a_cache_of_no_size_is_empty_after_the_ingest(settings_for, context, ask):
    ingest(settings_for([ask("small.mp4")], frame_cache_size=0), context)
    assert context.open_store().list_objects(FRAMES) == [] and context.open_store().list_objects(USES) == []


def used(store: FolderStore, names: list[str], age: float, *, write: bool = False) -> None:
    """An ingest that used these entries, of 1000 bytes each, `age` seconds ago."""
    cache = FrameCache(store)
    for name in names:
        if write:
            cache.write(name, bytes(1000 - 32))
        else:
            assert cache.read(name) == bytes(1000 - 32)
    before = set(store.root.rglob("*"))
    cache.trim(1e9)
    written = {store.root / FRAMES / name for name in names} if write else set()
    moment = time.time() - age
    for path in (set(store.root.rglob("*")) - before) | written:
        os.utime(path, (moment, moment))


def test_the_least_recently_used_go_first(tmp_path):
    store = FolderStore(tmp_path)
    used(store, ["a", "b"], 300, write=True)
    used(store, ["c", "d"], 200, write=True)
    used(store, ["a"], 100)
    FrameCache(store).trim(2500)
    assert store.list_objects(FRAMES) == ["frames/a", "frames/d"]  # b and c went: of equal age the first by name
    FrameCache(store).trim(1500)
    assert store.list_objects(FRAMES) == ["frames/a"]


def test_a_damaged_entry_is_as_none(tmp_path):
    cache = FrameCache(FolderStore(tmp_path))
    cache.write("a", b"frames")
    assert cache.read("a") == b"frames"
    path = tmp_path / FRAMES / "a"
    path.write_bytes(path.read_bytes()[:-1])
    assert cache.read("a") is None


def test_an_s3_stores_frames_are_kept_on_this_machine_too(bucket, settings_for, ask, asked, tmp_path):
    context = StepContext(store=f"s3://{bucket.name}/store")
    ingest(settings_for([ask("small.mp4")]), context)
    local, store = Path(os.environ["DEEPVIDEO_CACHE"]) / FRAMES, context.open_store()
    assert len(list(local.iterdir())) == 1 and len(store.list_objects(FRAMES)) == 1
    for gone in (lambda: [path.unlink() for path in local.iterdir()], lambda: store.delete_objects(FRAMES)):
        gone()
        asked.clear()
        ingest(settings_for([ask("small.mp4", question=f"{gone}")]), context)
        assert asked == ["digest"] and len(list(local.iterdir())) == 1


def test_an_entrys_name_depends_on_all_that_shapes_it():
    names = {entry_name("a", RECIPE), entry_name("b", RECIPE), entry_name("a", {"frame_size": 84})}
    assert len(names) == 3 and entry_name("a", dict(RECIPE)) in names
