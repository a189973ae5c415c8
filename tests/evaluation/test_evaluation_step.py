"""The evaluation step on scripted answers, whose figures are known by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.evaluation.champion import evaluate_rival
from components.evaluation.settings import EvaluationSettings
from components.evaluation.step import evaluate
from components.shared.context import StepContext, derived_seed
from components.shared.generation import Prompt
from components.shared.sampling.artifacts import put_files
from components.shared.schemas import Sample
from components.shared.scores import FLIPS, read_answers, read_figures
from components.shared.store import StoreError
from components.shared.tracking.registry import Champion
from tests.round_fixtures import MALFORMED, RIGHT, WRONG, Round, ScriptedSampler, begin_round, sample

SETTINGS = EvaluationSettings(bootstrap_resamples=200)
SPLITS = ("train",) * 3 + ("L1",) * 4 + ("L2",) * 4 + ("promotion",) * 4


def questions() -> list[Sample]:
    """s000 to s014; the L1 and L2 questions are of two kinds, each level has four videos."""
    kinds = [{"kind": "colour"}, {"kind": "place"}]
    return [
        sample(index, split).model_copy(update={"metadata": kinds[index % 2]}) for index, split in enumerate(SPLITS)
    ]


@pytest.fixture
def start(tmp_path: Path) -> Round:
    return begin_round(tmp_path, questions(), round_index=0)


def base_says(prompt: Prompt, seed: int) -> str:
    """Of the four sampled answers to a question the first is right, the second malformed, the others wrong."""
    first = derived_seed(3, 0, prompt.key, "evaluation")
    return (RIGHT, MALFORMED, WRONG, WRONG)[seed - first]


def trained_says(prompt: Prompt, seed: int) -> str:
    """As the base does, but always right in L1, and never in L2."""
    by_level = {"L1": RIGHT, "L2": WRONG}
    return by_level.get(prompt.sample.split) or base_says(prompt, seed)


def test_figures_are_those_counted_by_hand(start: Round) -> None:
    sampler = ScriptedSampler(base_says)
    outputs = evaluate(start.dataset, start.policy, SETTINGS, sampler, start.context)
    scores = read_figures(start.context.open_store().get(outputs.artifacts["scores"]))
    assert sorted(scores["levels"]) == ["L1", "L2", "overall", "promotion"]
    figures = scores["levels"]["L1"]["figures"]
    # all questions are answered alike: intervals have no width
    assert figures["sampled"] == {"value": 0.25, "low": 0.25, "high": 0.25}
    assert figures["sampled_parsed"]["value"] == pytest.approx(1 / 3)
    assert figures["sampled_parse_failure"]["value"] == 0.25
    assert figures["greedy"]["value"] == 1.0  # the greedy answer has the first seed
    assert scores["levels"]["L1"]["kinds"]["place"]["questions"] == 2
    assert (scores["levels"]["overall"]["questions"], scores["levels"]["overall"]["videos"]) == (8, 8)
    assert outputs.results["eval/L1/accuracy"] == 0.25
    assert outputs.results["questions"] == 12


def test_questions_are_the_held_out_ones_unaugmented_with_seeds_of_their_own(start: Round) -> None:
    sampler = ScriptedSampler(base_says)
    evaluate(start.dataset, start.policy, SETTINGS, sampler, start.context)
    asked = {prompt.key for prompt in sampler.prompts}
    assert asked == {f"s{index:03d}" for index in range(3, 15)}
    assert all(prompt.hint == prompt.given_answer == "" for prompt in sampler.prompts)
    in_order = [derived_seed(start.context.seed, 0, prompt.key, "evaluation") for prompt in sampler.prompts]
    assert sampler.seeds == in_order


def test_changes_are_paired_by_question_and_flips_have_both_texts(start: Round) -> None:
    store = start.context.open_store()
    before = evaluate(start.dataset, start.policy, SETTINGS, ScriptedSampler(base_says), start.context)
    trained = put_files(
        store, "policy", {"tokenizer.json": (store.get(start.policy) / "tokenizer.json").read_bytes() + b" "}
    )
    after = evaluate(
        start.dataset,
        trained,
        SETTINGS,
        ScriptedSampler(trained_says),
        start.context,
        baseline=before.artifacts["scores"],
        label="after",
    )
    folder = store.get(after.artifacts["scores"])
    changes = read_figures(folder)["changes"]
    assert changes["L1"]["figures"]["sampled"] == {"value": 0.75, "low": 0.75, "high": 0.75}
    assert changes["L1"]["figures"]["sampled_parsed"]["value"] == pytest.approx(2 / 3)
    assert changes["L2"]["figures"]["greedy"]["value"] == -1.0
    assert changes["overall"]["figures"]["sampled"]["value"] == pytest.approx((0.75 - 0.25) / 2)
    assert changes["promotion"]["figures"]["sampled"]["value"] == 0.0
    assert (changes["L1"]["gained"], changes["L1"]["lost"], changes["L2"]["lost"]) == (0, 0, 4)
    flips = [json.loads(line) for line in (folder / FLIPS).read_text().splitlines()]
    assert [(flip["sample_id"], flip["direction"]) for flip in flips] == [
        (f"s{index:03d}", "lost") for index in range(7, 11)
    ]
    assert (flips[0]["before"], flips[0]["after"]) == (RIGHT, WRONG)
    assert after.results["eval/L1/accuracy_difference"] == 0.75
    assert after.results["eval/L1/accuracy_difference_low"] == 0.75


def test_an_interrupted_evaluation_repeats_one_chunk_at_most_and_gives_the_same_scores(
    start: Round, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"chunk_questions": 5})

    def breaks(prompt: Prompt, seed: int) -> str:
        if prompt.key == "s009":  # in the second chunk of three
            raise KeyboardInterrupt
        return base_says(prompt, seed)

    with pytest.raises(KeyboardInterrupt):
        evaluate(start.dataset, start.policy, settings, ScriptedSampler(breaks), start.context)
    resumed = ScriptedSampler(base_says)
    outputs = evaluate(start.dataset, start.policy, settings, resumed, start.context)
    assert [len(keys) for keys in resumed.calls] == [5, 5, 2, 2]  # sampled and greedy, two chunks
    again = ScriptedSampler(base_says)
    assert evaluate(start.dataset, start.policy, settings, again, start.context) == outputs
    assert again.calls == []
    elsewhere = begin_round(tmp_path / "elsewhere", questions(), round_index=0)
    whole = evaluate(elsewhere.dataset, elsewhere.policy, settings, ScriptedSampler(base_says), elsewhere.context)
    assert whole.artifacts["scores"].digest == outputs.artifacts["scores"].digest


def test_the_first_questions_of_a_seeded_order_are_the_same_for_every_policy(start: Round) -> None:
    settings = SETTINGS.model_copy(update={"questions_per_level": 2, "greedy": False})
    first, second = ScriptedSampler(base_says), ScriptedSampler(trained_says)
    before = evaluate(start.dataset, start.policy, settings, first, start.context)
    evaluate(start.dataset, start.policy, settings, second, start.context, before.artifacts["scores"], "after")
    assert first.calls == second.calls
    assert [len(keys) for keys in first.calls] == [6]
    assert (
        "greedy"
        not in read_figures(start.context.open_store().get(before.artifacts["scores"]))["levels"]["L1"]["figures"]
    )
    other = ScriptedSampler(lambda prompt, seed: RIGHT)
    for seed in range(5):
        evaluate(start.dataset, start.policy, settings, other, start.context.model_copy(update={"seed": seed}))
    assert len({tuple(keys) for keys in other.calls}) > 1


def test_every_answer_is_kept(start: Round) -> None:
    outputs = evaluate(start.dataset, start.policy, SETTINGS, ScriptedSampler(base_says), start.context)
    answers = read_answers(start.context.open_store().get(outputs.artifacts["scores"]))
    assert [answer.text for answer in answers[0].sampled] == [RIGHT, MALFORMED, WRONG, WRONG]
    assert [answer.parsed for answer in answers[0].sampled] == [True, False, True, True]
    assert [answer.reward for answer in answers[0].sampled] == [1.0, 0.0, 0.0, 0.0]
    assert answers[0].greedy is not None and answers[0].greedy.text == RIGHT


@pytest.mark.parametrize("level", ["train", "L9"])
def test_a_level_that_is_trained_on_or_unknown_is_refused_before_any_question(start: Round, level: str) -> None:
    sampler = ScriptedSampler(base_says)
    with pytest.raises(ValueError, match=rf"evaluation.levels: \['{level}'\].*\['L1', 'L2', 'promotion'\]"):
        evaluate(start.dataset, start.policy, SETTINGS.model_copy(update={"levels": (level,)}), sampler, start.context)
    assert sampler.calls == []


def test_a_baseline_over_other_questions_is_refused_before_any_question(start: Round) -> None:
    only = SETTINGS.model_copy(update={"levels": ("L1",)})
    before = evaluate(start.dataset, start.policy, only, ScriptedSampler(base_says), start.context)
    sampler = ScriptedSampler(base_says)
    with pytest.raises(ValueError, match="evaluate both policies on the same dataset"):
        evaluate(start.dataset, start.policy, SETTINGS, sampler, start.context, before.artifacts["scores"], "after")
    assert sampler.calls == []


def test_a_champion_of_another_store_is_asked_the_promotion_questions(start: Round, tmp_path: Path) -> None:
    other = StepContext(store=str(tmp_path / "other_store")).open_store()
    tokenizer = (start.context.open_store().get(start.policy) / "tokenizer.json").read_bytes()
    champion = Champion(version="3", policy=put_files(other, "policy", {"tokenizer.json": tokenizer + b"\n"}))
    sampler = ScriptedSampler(base_says)

    def rival(record: str) -> dict[str, object]:
        arguments = (start.dataset, start.policy, start.dataset, "promotion", SETTINGS, sampler, start.context)
        outputs = evaluate_rival(record, *arguments)
        return {"scores": outputs.artifacts["scores"], **outputs.results}

    assert rival(champion.model_dump_json())["levels"] == ["promotion"]
    assert {prompt.sample.split for prompt in sampler.prompts} == {"promotion"}
    for stand_in in ("", Champion(version="1", policy=start.policy).model_dump_json()):
        assert rival(stand_in)["scores"] == start.dataset  # what was handed in as the base's scores
    gone = champion.model_copy(update={"policy": champion.policy.model_copy(update={"digest": "0" * 64})})
    with pytest.raises(StoreError, match="champion version 3.*restore its policy"):
        rival(gone.model_dump_json())
