"""The accounting of sampled responses, against hand calculations."""

from __future__ import annotations

from components.shared.ledger import Outputs
from tests.benchmarks.study.budget import Spent, next_prompts
from tests.benchmarks.study.rounds import spent_on


def test_rounds_are_usual_but_the_last_which_takes_what_is_left() -> None:
    # 12,000 responses at 8 a prompt and 144 prompts a round: 1152 a round, 10.42 rounds; after nine 1632 are left,
    # 1.42 rounds: 204 prompts. Nothing is left then.
    left, rounds = 12_000, []
    while prompts := next_prompts(left, 8, 144):
        rounds.append(prompts)
        left -= 8 * prompts
    assert rounds == [144] * 9 + [204] and left == 0


def test_a_cost_that_changes_is_made_up_for_by_the_last_round() -> None:
    # every round costs 14.5 a prompt: five of 144 prompts leave 12,000 - 5 * 2088 = 1560, 0.75 rounds, 108 prompts
    left, rounds, cost = 12_000.0, [], 14.0
    while prompts := next_prompts(left, cost, 144):
        rounds.append(prompts)
        cost = 14.5
        left -= cost * prompts
    assert rounds == [144] * 5 + [108] and left == -6


def test_less_than_half_a_round_is_not_begun() -> None:
    assert next_prompts(575, 8, 144) == 0  # 576 is half of 1152
    assert next_prompts(576, 8, 144) == 72
    assert next_prompts(-6, 8, 144) == 0
    assert next_prompts(1728, 8, 144) == 144  # one and a half is a usual one


def test_difficulty_hints_and_rollout_all_count() -> None:
    outputs = {
        "difficulty": Outputs(results={"responses": 1152}),
        "augmentation": Outputs(results={"augmented/responses_sampled": 200}),
        "rollout": Outputs(results={"responses_sampled": 680}),
    }
    assert spent_on(outputs) == Spent(1152, 200, 680)
    assert spent_on(outputs).total == 2032
