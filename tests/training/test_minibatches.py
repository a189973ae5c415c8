"""Dealing groups out to steps, ranks and forward passes; the schedule; the stop rules."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from components.training.minibatches import plan
from components.training.schedule import learning_rate
from components.training.settings import TrainingSettings
from components.training.state import RoundSummary, stop_reason

lengths = st.lists(st.integers(1, 5000), min_size=1, max_size=40)


@settings(deadline=None)
@given(lengths, st.integers(1, 9), st.integers(1, 4), st.integers(1, 12_000))
def test_every_group_is_dealt_out_once_and_ranks_stay_in_step(
    tokens: list[int], steps: int, world_size: int, budget: int
) -> None:
    made = plan(tokens, steps=steps, world_size=world_size, micro_batch_tokens=budget, seed=0, round_index=1)
    dealt = [
        index
        for step in made
        for rank in step.ranks
        for micro in rank
        for index, weight in zip(micro.groups, micro.weights, strict=True)
        if weight
    ]
    assert sorted(dealt) == list(range(len(tokens)))
    assert dealt == [index for step in made for index in step.indices()]
    assert len(made) == min(steps, len(tokens))
    for step in made:
        assert len({len(rank) for rank in step.ranks}) == 1  # collectives match
        assert step.groups == sum(weight > 0 for rank in step.ranks for micro in rank for weight in micro.weights)
        for micro in (micro for rank in step.ranks for micro in rank):
            assert len(micro.groups) == 1 or sum(tokens[index] for index in micro.groups) <= budget
        assert any(all(all(micro.weights) for micro in rank) for rank in step.ranks)  # no pass is idle on all of them
    sizes = [step.groups for step in made]
    assert max(sizes) - min(sizes) <= 1


def test_groups_share_a_forward_pass_within_the_budget() -> None:
    (step,) = plan([60, 50, 40, 30, 200], steps=1, world_size=1, micro_batch_tokens=100, seed=0, round_index=1)
    assert [sorted(micro.groups) for micro in step.ranks[0]] == [[4], [0, 2], [1, 3]]


def test_a_rank_with_fewer_forward_passes_makes_more_of_its_groups_before_it_idles() -> None:
    # one rank gets the long group and a short one, which do not fit together; the other's two would
    (step,) = plan([100, 30, 30, 10], steps=1, world_size=2, micro_batch_tokens=100, seed=0, round_index=1)
    assert [[micro.groups for micro in rank] for rank in step.ranks] == [[(0,), (3,)], [(1,), (2,)]]
    (step,) = plan([100, 30, 30], steps=1, world_size=2, micro_batch_tokens=100, seed=0, round_index=1)
    assert [[micro.groups for micro in rank] for rank in step.ranks] == [[(0,)], [(1, 2)]]
    (step,) = plan([10], steps=1, world_size=2, micro_batch_tokens=100, seed=0, round_index=1)
    assert [[micro.weights for micro in rank] for rank in step.ranks] == [[(1.0,)], [(0.0,)]]


def test_two_ranks_get_about_equally_many_tokens() -> None:
    tokens = [100 * (i + 1) for i in range(16)]
    (step,) = plan(tokens, steps=1, world_size=2, micro_batch_tokens=1, seed=0, round_index=1)
    loads = [sum(tokens[i] for micro in rank for i in micro.groups) for rank in step.ranks]
    assert abs(loads[0] - loads[1]) <= 100


def test_the_order_is_fixed_by_seed_and_round() -> None:
    def order(seed: int, round_index: int) -> object:
        return plan([10] * 30, steps=5, world_size=1, micro_batch_tokens=20, seed=seed, round_index=round_index)

    assert order(1, 1) == order(1, 1)
    assert order(1, 1) != order(1, 2)
    assert order(1, 1) != order(2, 1)


def test_the_learning_rate_warms_up_and_falls_as_a_cosine() -> None:
    cosine = TrainingSettings(learning_rate=1.0, lr_scheduler_type="cosine", warmup_steps=4, max_steps=12)
    rates = [learning_rate(step, cosine) for step in range(14)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0 and rates[8] == pytest.approx(0.5) and rates[12] == 0.0 and rates[13] == 0.0
    assert learning_rate(0, TrainingSettings(learning_rate=3e-4)) == 3e-4


def test_cosine_without_its_end_is_refused() -> None:
    with pytest.raises(ValidationError, match="max_steps"):
        TrainingSettings(lr_scheduler_type="cosine")


def history(*rewards: float, kl: float = 0.1, entropy: float = 1.0) -> tuple[RoundSummary, ...]:
    return tuple(RoundSummary(round=i + 1, reward=r, kl=kl, entropy=entropy) for i, r in enumerate(rewards))


@pytest.mark.parametrize(
    ("rule", "rounds", "stops"),
    [
        ({}, history(1.0, 0.1, kl=9.0, entropy=0.0), False),
        ({"stop_kl": 0.5}, history(1.0, kl=0.6), True),
        ({"stop_kl": 0.5}, history(1.0, kl=0.4), False),
        ({"stop_entropy": 0.2}, history(1.0, entropy=0.1), True),
        ({"stop_entropy": 0.2}, history(1.0, entropy=0.3), False),
        ({"stop_reward_drop": 0.5}, history(1.0, 0.4), True),
        ({"stop_reward_drop": 0.5}, history(1.0, 0.6), False),
        ({"stop_reward_patience": 2}, history(1.0, 0.9, 1.0), True),
        ({"stop_reward_patience": 2}, history(1.0, 0.9, 1.1), False),
    ],
)
def test_a_stop_rule_fires_at_its_limit(rule: dict[str, float], rounds: tuple[RoundSummary, ...], stops: bool) -> None:
    reason = stop_reason(rounds, TrainingSettings(**rule))
    assert bool(reason) == stops
    if stops:
        assert next(iter(rule)) in reason or "mean reward" in reason
