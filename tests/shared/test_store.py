"""The artifact store in a folder: content-addressed, immutable, never readable half-written."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from components.shared.schemas import ArtifactRef
from components.shared.store import MANIFEST, FolderStore, StoreError, content_digest, describe, open_store


def folder_with(root: Path, **files: str) -> Path:
    root.mkdir(parents=True)
    for name, text in files.items():
        (root / name).write_text(text)
    return root


def test_what_was_put_is_got_and_its_digest_is_that_of_its_content(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    ref = store.put(folder_with(tmp_path / "a", x="1", y="22"), "dataset", {"note": "n"})
    got = store.get(ref)
    assert {path.name: path.read_text() for path in got.iterdir() if path.name != MANIFEST} == {"x": "1", "y": "22"}
    assert ref.digest == content_digest(describe(got)) and ref.size == 3 and ref.metadata == {"note": "n"}


def test_the_same_content_is_one_version_and_other_content_another(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    first = store.put(folder_with(tmp_path / "a", x="1"), "policy")
    assert store.put(folder_with(tmp_path / "b", x="1"), "policy") == first
    assert store.put(folder_with(tmp_path / "c", x="2"), "policy").digest != first.digest
    assert store.put(folder_with(tmp_path / "d", z="1"), "policy").digest != first.digest  # names count


def test_a_version_without_its_manifest_cannot_be_read(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    ref = store.put(folder_with(tmp_path / "a", x="1"), "state")
    (store.root / "state" / ref.digest / MANIFEST).unlink()
    with pytest.raises(StoreError, match="not in the store"):
        store.get(ref)


def test_a_damaged_version_is_named(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    ref = store.put(folder_with(tmp_path / "a", x="1"), "state")
    (store.root / "state" / ref.digest / "x").write_text("longer")
    with pytest.raises(StoreError, match="missing or damaged"):
        store.get(ref)


def test_a_manifest_that_does_not_match_its_digest_is_refused(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    one = store.put(folder_with(tmp_path / "a", x="1"), "state")
    other = store.put(folder_with(tmp_path / "b", x="2"), "state")
    shutil.copy(store.root / "state" / other.digest / MANIFEST, store.root / "state" / one.digest / MANIFEST)
    with pytest.raises(StoreError, match="does not match"):
        store.get(one)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="holds no file"):
        FolderStore(tmp_path / "store").put(tmp_path / "empty", "state")


def test_objects_are_written_as_a_whole_listed_and_deleted_by_prefix(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    store.write_object("work/k/1", b"one")
    store.write_object("work/k/2", b"two")
    store.write_object("work/other/1", b"x")
    assert store.read_object("work/k/1") == b"one" and store.read_object("work/k/3") is None
    assert store.list_objects("work/k") == ["work/k/1", "work/k/2"]
    store.delete_objects("work/k")
    assert store.list_objects("work") == ["work/other/1"]


def test_what_another_process_removes_during_a_listing_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path / "store")
    for name in ("work/a/1/checkpoint.json", "work/a/2/checkpoint.json", ".staging/b/x"):
        store.write_object(name, b"1")
    doomed, scandir = {str(store.root / "work/a/2"), str(store.root / ".staging/b")}, os.scandir

    def removed_first(path: Any) -> Any:
        if str(path) in doomed:  # after its parent was read and before it is
            shutil.rmtree(path)
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", removed_first)
        assert store.list_objects("work") == ["work/a/1/checkpoint.json"]
        assert [entry.name for entry in store.leftovers(time.time() + 60)] == [".staging/b"]
    assert store.leftovers(time.time() + 60) == []
    assert store.list_objects("work/a/1/checkpoint.json") == []  # a file is no prefix


def test_a_store_is_opened_again_by_its_own_uri_also_with_a_space_in_it(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "a store")
    ref = store.put(folder_with(tmp_path / "a", x="1"), "state")
    again = open_store(store.uri_of(""))
    assert again.get(ArtifactRef(kind="state", uri="", digest=ref.digest, size=0)) == store.get(ref)


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(StoreError, match="gs"):
        open_store("gs://bucket")
