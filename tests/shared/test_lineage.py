"""Lineage, and garbage collection: what anything needs stays, on random lineages, in a folder and on a real S3 server."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from components.shared.ledger import Ledger, Outputs, read_ledger
from components.shared.lineage import Rules, collect, find_version, plan_collection, read_lineage
from components.shared.runs import begin_run, end_run, read_runs
from components.shared.schemas import ArtifactRef
from components.shared.store import MANIFEST, FolderStore, Store, StoreError, open_store
from components.shared.store.base import DOOMED, KINDS
from pipelines.containers.radosgw import Bucket
from tests.waiting import SOON, wait_for

DAY = 86_400.0


def put(store: Store, folder: Path, kind: str, text: str) -> ArtifactRef:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file").write_text(text)
    return store.put(folder, kind)


def name_of(ref: ArtifactRef) -> str:
    return f"{ref.kind}/{ref.digest}"


@dataclass
class World:
    """A random history in a store, and what of it may never be deleted, told by the history and not by the code."""

    store: Store
    refs: list[ArtifactRef] = field(default_factory=list)
    parents: dict[str, set[str]] = field(default_factory=dict)  # version -> the versions that it was made from
    asked: dict[str, set[str]] = field(default_factory=dict)  # run -> what its work read, made or checkpointed
    ended: dict[str, bool] = field(default_factory=dict)  # run -> whether it ended; in the order of their beginning
    needed: set[str] = field(default_factory=set)

    def need(self, version: str) -> None:
        """The version is needed, and so is all that it came from."""
        if version not in self.needed:
            self.needed.add(version)
            for parent in self.parents.get(version, ()):
                self.need(parent)


def history(store: Store, scratch: Path, rng: random.Random) -> World:
    """Some runs whose steps read and make versions, some of them shared, some runs killed with a checkpoint."""
    world = World(store)
    for number in range(rng.randint(1, 4)):
        run = f"run-{number}"
        begin_run(store, run)
        world.asked[run] = set()
        for step in range(rng.randint(1, 4)):
            inputs = rng.sample(world.refs, k=min(len(world.refs), rng.randint(0, 3)))
            ledger = Ledger(store, run, step)
            digests = {f"input{i}": ref.digest for i, ref in enumerate(inputs)}
            key = ledger.key(rng.choice(["training", "rollout"]), digests, {"n": rng.random()}, 0)
            assert ledger.finished(key) is None
            names = {name_of(ref) for ref in inputs}
            killed = rng.random() < 0.2
            if killed:
                made = put(store, scratch / "c", "state", f"checkpoint {rng.random()}")
                store.write_object(f"work/{key}/checkpoint.json", made.model_dump_json().encode())
                store.write_object(f"work/{key}/0000", b"chunk")
                world.asked[run] |= {name_of(made)} | names
                world.refs.append(made)
                break
            made = [put(store, scratch / "v", rng.choice(KINDS), str(rng.random())) for _ in range(rng.randint(1, 2))]
            if inputs and rng.random() < 0.2:
                made.append(rng.choice(inputs))  # a step that hands something on unchanged
            ledger.finish(key, Outputs(artifacts={f"output{i}": ref for i, ref in enumerate(made)}))
            for ref in made:
                if name_of(ref) not in names:
                    world.parents.setdefault(name_of(ref), set()).update(names)
            world.asked[run] |= names | {name_of(ref) for ref in made}
            world.refs += [ref for ref in made if name_of(ref) not in names]
        world.ended[run] = rng.random() < 0.6
        if world.ended[run]:
            end_run(store, run, "FINISHED")
        time.sleep(0.002)  # the runs' beginnings differ
    if rng.random() < 0.3:
        world.refs.append(put(store, scratch / "o", "policy", f"by hand {rng.random()}"))
    return world


def rules_for(world: World, rng: random.Random, silent: bool) -> Rules:
    """Random rules; `silent`: nobody gave a sign of life for longer than they ask for. Sets what is needed by them."""
    keep, aliased = rng.randint(0, 2), rng.sample(world.refs, k=min(len(world.refs), rng.randint(0, 2)))
    for ref in aliased:
        world.need(name_of(ref))
    newest = list(world.ended)[::-1][:keep]
    for run, asked in world.asked.items():
        if run in newest or (not world.ended[run] and not silent):
            for version in asked:
                world.need(version)
    return Rules(frozenset(ref.digest for ref in aliased), keep, older_than=DAY)


def grow_old(store: FolderStore, seconds: float, keep: tuple[str, ...] = ()) -> None:
    for entry in store.entries(""):
        if not entry.name.startswith(keep) or not keep:
            path = store.root / entry.name
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - seconds))


def check_left(world: World, store: Store) -> None:
    """All that is needed is there and readable, and nothing in the ledger promises what is gone."""
    left = set(store.versions())
    assert world.needed <= left
    for version in left:
        kind, digest = version.split("/")
        store.get(ArtifactRef(kind=kind, uri="", digest=digest, size=0))
    ledger = Ledger(store)
    for key in read_ledger(store):
        if done := ledger.finished(key):
            assert {name_of(ref) for ref in done.artifacts.values()} <= left


@pytest.mark.parametrize("seed", range(200))
def test_collection_never_deletes_what_is_reachable_and_deletes_the_rest(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    store = FolderStore(tmp_path / "store")
    world = history(store, tmp_path, rng)
    silent = rng.random() < 0.5
    rules = rules_for(world, rng, silent)
    before = set(store.versions())
    assert collect(store, rules).versions == {}  # everything is young
    assert set(store.versions()) == before
    grow_old(store, 2 * DAY, keep=() if silent else ("runs/",))
    plan = plan_collection(store, rules, time.time())
    done = collect(store, rules)
    assert done.versions == plan.versions and done.work == plan.work
    check_left(world, store)
    assert set(store.versions()) == world.needed
    assert store.list_objects(DOOMED) == []
    assert collect(store, rules).versions == {}


def test_collection_on_s3_never_deletes_what_is_reachable_and_frees_what_it_deleted(
    bucket: Bucket, tmp_path: Path
) -> None:
    rng = random.Random(1)
    store = open_store(f"{bucket.uri}/p")
    store.check()
    world = history(store, tmp_path, rng)
    aliased = rng.choice(world.refs)
    assert collect(store, Rules(keep_runs=0, older_than=3600)).versions == {}  # everything is young
    time.sleep(2)  # from here on it is older than a second
    for asked in world.asked.values():
        for version in asked:
            world.need(version)
    collect(store, Rules(keep_runs=len(world.asked), older_than=1))
    check_left(world, store)

    world.needed.clear()
    world.need(name_of(aliased))
    time.sleep(2)
    rules = Rules(frozenset([aliased.digest]), keep_runs=0, older_than=1)
    assert len(collect(store, rules).versions) > 0
    check_left(world, store)
    assert set(store.versions()) == world.needed
    assert store.leftovers(float("inf")) != []  # what was deleted can still be brought back
    time.sleep(2)
    collect(store, rules)
    left = {entry.name.partition("?")[0].split("/")[0] for entry in store.leftovers(float("inf"))}
    assert left == {DOOMED}  # the traces of this very collection


def an_old_version(tmp_path: Path) -> tuple[FolderStore, ArtifactRef, str]:
    """A version that nothing needs, made by recorded work of a run that is over."""
    store = FolderStore(tmp_path / "store")
    ledger = Ledger(store, "over")
    key = ledger.key("training", {}, {}, 0)
    ref = put(store, tmp_path / "v", "policy", "x")
    ledger.finish(key, Outputs(artifacts={"policy": ref}))
    begin_run(store, "over")
    end_run(store, "over", "FINISHED")
    grow_old(store, 2 * DAY)
    return store, ref, key


RULES = Rules(keep_runs=0, older_than=DAY)


def test_a_run_that_finds_the_work_done_while_it_is_being_collected_keeps_it(tmp_path: Path) -> None:
    """The run asks between the collection's two looks, at the last moment at which it still finds the record."""
    store, ref, key = an_old_version(tmp_path)
    found: list[Outputs | None] = []

    class Watched(FolderStore):
        def delete_objects(self, prefix: str) -> None:
            if prefix == f"ledger/{key}.json":
                begin_run(store, "late")
                found.append(Ledger(store, "late").finished(key))
            super().delete_objects(prefix)

    done = collect(Watched(store.root), RULES)
    assert found[0] and done.versions == {} and store.get(ref)
    assert Ledger(store).finished(key) == found[0]  # its record is back


def test_content_that_is_stored_again_while_it_is_being_collected_is_there_afterwards(tmp_path: Path) -> None:
    """The run stores it when the list is written already: it waits for the end, and stores it anew."""
    store, ref, _ = an_old_version(tmp_path)
    threads: list[threading.Thread] = []

    class Watched(FolderStore):
        def delete_objects(self, prefix: str) -> None:
            if prefix == name_of(ref):
                threads.append(threading.Thread(target=put, args=(store, tmp_path / "again", "policy", "x")))
                threads[0].start()
                time.sleep(0.3)
            super().delete_objects(prefix)

    done = collect(Watched(store.root), RULES)
    threads[0].join(SOON)
    assert name_of(ref) in done.versions and (store.get(ref) / "file").read_text() == "x"


def test_content_that_is_stored_again_just_before_the_second_look_is_kept(tmp_path: Path) -> None:
    store, ref, key = an_old_version(tmp_path)
    manifest = store.root / name_of(ref) / MANIFEST
    threads: list[threading.Thread] = []

    class Watched(FolderStore):
        def delete_objects(self, prefix: str) -> None:
            if prefix == f"ledger/{key}.json":
                threads.append(threading.Thread(target=put, args=(store, tmp_path / "again", "policy", "x")))
                threads[0].start()
                wait_for(lambda: time.time() - manifest.stat().st_mtime < DAY)  # it is young again
            super().delete_objects(prefix)

    assert collect(Watched(store.root), RULES).versions == {}
    threads[0].join(SOON)
    assert store.get(ref)


def test_two_collections_at_once_are_refused_and_a_dead_one_is_ended_by_the_next(tmp_path: Path) -> None:
    store, ref, _ = an_old_version(tmp_path)
    store.write_object(f"{DOOMED}/other.json", json.dumps([name_of(ref)]).encode())
    with pytest.raises(StoreError, match="another garbage collection is at work"):
        collect(store, RULES)
    assert store.get(ref)
    grow_old(store, 3600, keep=("policy", "ledger", "runs"))
    assert name_of(ref) in collect(store, RULES).versions
    assert store.list_objects(DOOMED) == []


def test_half_written_versions_broken_off_writes_and_chunks_go_when_they_are_old(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    store.write_object("policy/abc/part", b"12345")
    store.write_object("work/k/0000", b"1")
    (store.root / ".staging" / "broken").mkdir(parents=True)
    (store.root / ".staging" / "broken" / "file").write_bytes(b"123")
    plan = plan_collection(store, RULES, time.time())
    assert (plan.versions, plan.work, plan.leftovers) == ({}, {}, [])
    later = time.time() + 2 * DAY
    plan = plan_collection(store, RULES, later)
    assert plan.versions == {"policy/abc": 5} and plan.work == {"work/k": 1} and len(plan.leftovers) == 1
    store.drop_leftovers(plan.leftovers)
    assert list((store.root / ".staging").iterdir()) == []


def test_the_runs_that_were_not_kept_are_forgotten(tmp_path: Path) -> None:
    store, _, key = an_old_version(tmp_path)
    begin_run(store, "new")
    done = collect(store, Rules(keep_runs=1, older_than=DAY))
    assert done.runs == ["over"] and [run.record.name for run in read_runs(store)] == ["new"]
    assert key not in read_ledger(store)


def test_work_that_lost_an_output_stays_in_the_lineage_and_is_done_again(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    ledger = Ledger(store)
    key = ledger.key("training", {}, {}, 0)
    policy, state = put(store, tmp_path / "p", "policy", "p"), put(store, tmp_path / "s", "state", "s")
    ledger.finish(key, Outputs(artifacts={"policy": policy, "state": state}))
    grow_old(store, 2 * DAY)
    done = collect(store, Rules(frozenset([policy.digest]), keep_runs=0, older_than=DAY))
    assert set(done.versions) == {name_of(state)}
    lineage = read_lineage(store)
    assert lineage.makers(name_of(policy)) == [key] and lineage.records[key].collected
    assert ledger.finished(key) is None


def test_lineage_tells_the_maker_and_the_users_of_a_version(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    ledger = Ledger(store, "run", 1)
    first = put(store, tmp_path / "a", "policy", "a")
    key = ledger.key("training", {"policy": first.digest, "data": "no version"}, {}, 0)
    second = put(store, tmp_path / "b", "policy", "b")
    ledger.finish(key, Outputs(artifacts={"policy": second}))
    handed_on = ledger.key("training", {"policy": second.digest}, {}, 0)
    ledger.finish(handed_on, Outputs(artifacts={"policy": second}))
    lineage = read_lineage(store)
    assert lineage.makers(name_of(second)) == [key] and lineage.users(name_of(second)) == [handed_on]
    assert lineage.makers(name_of(first)) == [] and lineage.users(name_of(first)) == [key]
    assert lineage.inputs(lineage.records[key]) == {name_of(first)}
    assert lineage.ancestry([name_of(second)]) == {name_of(first), name_of(second)}


def test_a_version_is_found_by_the_beginning_of_its_digest_if_that_is_enough() -> None:
    versions = ["policy/abcd1", "policy/abcd2", "state/ffff0", "policy/ffff0"]
    assert find_version(versions, "abcd1") == "policy/abcd1"
    assert find_version(versions, "state/ffff") == "state/ffff0"
    for text, error in {
        "abcd": "could be",
        "ffff0": "could be",
        "9999": "no such version",
        "abc": "at least 4",
    }.items():
        with pytest.raises(StoreError, match=error):
            find_version(versions, text)


def test_a_record_that_no_code_of_today_wrote_is_named(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.write_object("ledger/old-1.json", b'{"artifacts": {}, "results": {}}')
    with pytest.raises(StoreError, match="ledger/old-1.json: .*an earlier version wrote it"):
        read_ledger(store)
