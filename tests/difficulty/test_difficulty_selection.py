"""Which samples a round takes."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from components.difficulty.selection import round_ids


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 5), st.integers(1, 12))
def test_no_round_has_a_sample_twice_and_every_epoch_has_each_once(
    total: int, count: int, seed: int, rounds: int
) -> None:
    count = min(count, total)
    ids = [f"s{i}" for i in range(total)]
    taken = [round_ids(ids, seed, index, count) for index in range(1, rounds + 1)]
    assert all(len(set(names)) == count for names in taken)
    stream = [name for names in taken for name in names]
    for start in range(0, len(stream) - total + 1, total):
        assert Counter(stream[start : start + total]) == Counter(ids)


def test_the_order_depends_on_the_seed_alone() -> None:
    ids = [f"s{i}" for i in range(20)]
    assert round_ids(ids, 1, 2, 5) == round_ids(ids[::-1], 1, 2, 5)
    assert round_ids(ids, 1, 1, 20) != round_ids(ids, 2, 1, 20)
    assert round_ids(ids, 1, 1, 20) != round_ids(ids, 1, 2, 20)  # the next epoch is shuffled anew


def test_a_round_larger_than_the_train_split_takes_all_of_it() -> None:
    assert sorted(round_ids(["a", "b"], 0, 1, 3)) == ["a", "b"] == sorted(round_ids(["a", "b"], 0, 2, 3))
