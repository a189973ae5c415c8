"""Delta and the replay buffer, against hand calculations."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.difficulty.formula import delta, normalised_mean, reference_reward, updated_buffer

_UNIT = st.floats(0, 1)


def test_rewards_are_divided_by_what_their_task_can_earn() -> None:
    assert normalised_mean([2.0, 1.0, 1.0, 0.0], 2.0) == 0.5
    assert normalised_mean([3.0, 0.0], 3.0) == 0.5


def test_relative_difficulty_is_the_buffers_mean_minus_the_samples() -> None:
    reference = reference_reward([0.2, 0.6], [0.9, 0.9], "relative", 0.5)
    assert reference == pytest.approx(0.4)
    assert delta(reference, 0.1) == pytest.approx(0.3)  # hard
    assert delta(reference, 1.0) == pytest.approx(-0.6)  # easy


def test_the_rounds_own_mean_stands_in_for_an_empty_buffer() -> None:
    means = [0.0, 0.25, 1.0]
    deltas = [delta(reference_reward([], means, "relative", 0.5), mean) for mean in means]
    assert sum(deltas) == pytest.approx(0.0)


def test_absolute_difficulty_knows_its_constant_alone() -> None:
    assert {reference_reward(buffer, [0.9], "absolute", 0.75) for buffer in ([], [0.1], [0.2, 0.4])} == {0.75}
    assert delta(0.75, 0.5) == 0.25  # hard, whatever the others are like


@settings(max_examples=50, deadline=None)
@given(st.lists(_UNIT, max_size=5), st.lists(_UNIT, min_size=1, max_size=5))
def test_delta_lies_between_minus_one_and_one(buffer: list[float], means: list[float]) -> None:
    assert all(-1 <= delta(reference_reward(buffer, means, "relative", 0.5), mean) <= 1 for mean in means)


def test_the_buffer_keeps_the_last_of_the_window() -> None:
    assert updated_buffer([1, 2, 3], [4, 5], 4) == [2, 3, 4, 5]
    assert updated_buffer([1], [2, 3, 4], 2) == [3, 4]
    assert updated_buffer([], [1], 100) == [1]
