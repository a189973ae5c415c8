"""Shards: together they make every chunk once, and what is left of a share is made by whoever has that share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.shared.ledger import Ledger, Outputs
from components.shared.runs import SignsOfLife, step_at_work
from components.shared.sharding import MERGES, WHOLE, Chunk, Shard, ShardMissing, made_chunks
from components.shared.store import FolderStore


@given(count=st.integers(1, 64), chunks=st.integers(0, 500))
def test_the_shards_of_a_step_make_every_chunk_once_and_share_them_evenly(count: int, chunks: int) -> None:
    shares = [[index for index in range(chunks) if shard.makes(index)] for shard in Shard.all_of(count)]
    assert sorted(index for share in shares for index in share) == list(range(chunks))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1 and sizes == sorted(sizes, reverse=True)


@given(count=st.integers(1, 64))
def test_a_shard_is_read_from_what_the_ui_shows_of_it(count: int) -> None:
    assert [Shard.parse(str(shard)) for shard in Shard.all_of(count)] == Shard.all_of(count)
    assert str(Shard(number=2, count=4)) == "shard 2 of 4"


def ledger_of(folder: Path, number: int = 1, count: int = 1) -> Ledger:
    return Ledger(FolderStore(folder), shard=Shard(number=number, count=count))


def make(ledger: Ledger, count: int, fails_at: int = -1) -> tuple[list[bytes], list[int]]:
    """(the chunks that came out, the indices of those that were made)."""
    made: list[int] = []

    def chunk(index: int) -> Chunk:
        def work() -> bytes:
            if index == fails_at:
                raise KeyboardInterrupt
            made.append(index)
            return str(index).encode()

        return Chunk(f"c-{index}", 1, work)

    chunks = [chunk(index) for index in range(count)]
    return list(made_chunks(ledger, "step-key", chunks, label="Making", unit="prompts")), made


def test_what_shards_made_is_found_in_order_and_not_made_again(tmp_path: Path) -> None:
    for number in (3, 1, 2):
        _, made = make(ledger_of(tmp_path, number, 3), 8)
        assert made == list(range(number - 1, 8, 3))
    data, made = make(ledger_of(tmp_path), 8)
    assert data == [str(index).encode() for index in range(8)] and made == []


def test_a_killed_shard_goes_on_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        make(ledger_of(tmp_path, 2, 2), 8, fails_at=5)  # its chunks are 1, 3, 5, 7
    assert make(ledger_of(tmp_path, 2, 2), 8)[1] == [5, 7]
    assert make(ledger_of(tmp_path, 2, 2), 8)[1] == []
    assert make(ledger_of(tmp_path, 1, 4), 8)[1] == [0, 4]  # another number of shards goes on with the same chunks
    assert make(ledger_of(tmp_path, 2, 4), 8)[1] == []


def test_a_pod_that_only_merges_names_the_shards_whose_work_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 3):
        make(ledger_of(tmp_path, number, 3), 8)
    monkeypatch.setenv(MERGES, "3")
    with pytest.raises(ShardMissing, match=r"^shard 2 of 3: 3 of the 8 chunks of step-key .*\(c-1, c-4, c-7\).*no GPU"):
        make(ledger_of(tmp_path), 8)
    monkeypatch.delenv(MERGES)
    assert make(ledger_of(tmp_path), 8)[1] == [1, 4, 7]  # a pod that may make them does
    monkeypatch.setenv(MERGES, "3")
    assert len(make(ledger_of(tmp_path), 8)[0]) == 8


def test_finished_work_counts_the_slowest_shards_seconds_and_all_engines(tmp_path: Path) -> None:
    for number, seconds in ((1, 5.0), (2, 9.0)):
        ledger = ledger_of(tmp_path, number, 2)
        make(ledger, 4)
        ledger.finish_share("step-key", seconds, 1.0)
    ledger_of(tmp_path, 1, 2).finish_share("step-key", 2.0, 1.0)  # tried again: 7 seconds in all
    made_by = FolderStore(tmp_path).read_object("work/step-key/share-1-of-2.json")
    record = Outputs.model_validate_json(made_by or b"")
    assert (record.seconds, record.startup_seconds) == (7.0, 2.0)
    record.results["engines"]["vllm"] = "0.32.0"  # type: ignore[index]  # which only the shard's process had
    FolderStore(tmp_path).write_object("work/step-key/share-1-of-2.json", record.model_dump_json().encode())
    merging = ledger_of(tmp_path)
    data, _ = make(merging, 4)
    done = merging.finish("step-key", Outputs(results={"reward": 1.0}, seconds=0.5))
    assert (done.seconds, done.startup_seconds, done.results["reward"]) == (9.5, 2.0, 1.0)
    assert done.results["engines"]["vllm"] == "0.32.0"  # type: ignore[index]
    assert len(data) == 4 and merging.store.list_objects("work") == []


def test_a_shard_cannot_finish_the_work_of_all(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shard 1 of 2 cannot finish"):
        ledger_of(tmp_path, 1, 2).finish("step-key", Outputs())
    assert ledger_of(tmp_path).finished("step-key") is None and not WHOLE.is_part


def test_a_step_stays_the_one_at_work_when_one_of_its_shards_is_done(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    signs = SignsOfLife(store, "run", "rollout, round 1")
    signs.stop(done=False)
    assert step_at_work(store, "run") == "rollout, round 1"
    signs.stop()
    assert step_at_work(store, "run") == ""
