"""The supervised warm-up: the model learns its targets, a kill changes nothing, and what cannot be learnt is named."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from components.shared.dataset import DatasetReader
from components.shared.generation import GenerationSettings, Prompt, make_sampler
from components.shared.policy_inputs import load_processor
from components.shared.rewards.accuracy import is_right
from components.shared.rewards.format import format_reward
from components.shared.schemas import ArtifactRef, Sample
from components.training.objectives.inputs import LossInputs
from components.training.objectives.sft import sft
from components.training.settings import TrainingSettings
from components.training.targets import make_targets, target_text
from components.training.warmup import warm_up
from components.training.warmup_settings import WarmupSettings, supervised
from tests.killing import kill_at_every_checkpoint
from tests.training_fixtures import ANSWERS, warm_up_inputs

WARMUP = WarmupSettings(num_train_epochs=12, learning_rate=3e-3, train_batch_size=3, warmup_ratio=0.1)
TRAINING = TrainingSettings(dtype="float32", checkpoint_steps=10, objective="grpo", epsilon=0.1)


@pytest.fixture(scope="module")
def warmed(policy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    given = warm_up_inputs(tmp_path_factory.mktemp("warmup"), policy_folder)
    given.outputs = warm_up(**given.refs, settings=WARMUP, training=TRAINING, context=given.context)
    return given


def greedy(given: SimpleNamespace, policy: ArtifactRef) -> list[tuple[Sample, str]]:
    """What a policy says to the samples of the train split at temperature 0, by transformers' own generation."""
    reader = DatasetReader(given.store.get(given.refs["dataset"]))
    samples = reader.samples("train")
    prompts = [
        Prompt(
            key=item.id,
            sample=item,
            frames=reader.frames(item.video),
            fps=reader.frames_record(item.video).fps,
            image=reader.frames(item.image)[0] if item.image else None,
        )
        for item in samples
    ]
    sampler = make_sampler(GenerationSettings(engine="transformers", dtype="float32", max_model_len=512))
    said = sampler.sample(
        given.store.get(policy), prompts, n=1, seeds=[0] * len(prompts), temperature=0, max_completion_length=48
    )
    return [(item, answer.responses[0].text) for item, answer in zip(samples, said, strict=True)]


def test_the_loss_falls_and_greedy_answers_become_the_targets(warmed: SimpleNamespace) -> None:
    results = warmed.outputs.results
    assert results["samples"] == 6 and results["targets/response"] == 5 and results["targets/answer"] == 1
    assert len(results["steps"]) == results["optimizer_steps"] == 24
    assert results["loss_first_epoch"] > 2 and results["loss_last_epoch"] < 0.2 * results["loss_first_epoch"]
    rates = [row["learning_rate"] for row in results["steps"]]
    assert max(rates) == pytest.approx(3e-3) and rates[0] == pytest.approx(1.5e-3) and rates[-1] < 1e-4  # 2 of 24 rise
    before, after = (greedy(warmed, ref) for ref in (warmed.refs["policy"], warmed.outputs.artifacts["policy"]))
    assert sum(is_right(*said) for said in before) == 0
    assert sum(is_right(*said) for said in after) == 6
    assert sum(text == ANSWERS[1] for _, text in after) >= 5
    assert all(format_reward(*said) for said in after)


def test_a_warm_up_changes_the_language_model_alone(warmed: SimpleNamespace) -> None:
    before, after = (
        load_file(warmed.store.get(ref) / "model.safetensors")
        for ref in (warmed.refs["policy"], warmed.outputs.artifacts["policy"])
    )
    assert {name for name in before if torch.equal(before[name], after[name])} == {n for n in before if "visual" in n}
    assert warmed.outputs.results["frozen_tensors_verified"] == sum("visual" in name for name in before)
    assert warmed.outputs.artifacts["policy"].metadata == {"model": "tiny", "warmup": 12}


def test_killed_at_every_checkpoint_it_ends_in_the_same_bytes(
    warmed: SimpleNamespace, policy_folder: Path, tmp_path: Path
) -> None:
    given = warm_up_inputs(tmp_path, policy_folder)
    assert kill_at_every_checkpoint("warm_up", given.refs, given.context, settings=WARMUP, training=TRAINING) >= 1
    again = warm_up(**given.refs, settings=WARMUP, training=TRAINING, context=given.context)
    assert again.artifacts["policy"].digest == warmed.outputs.artifacts["policy"].digest
    assert given.store.list_objects("work") == [] and given.store.list_objects("state") == []


def test_a_dataset_without_usable_targets_is_refused_by_name(policy_folder: Path, tmp_path: Path) -> None:
    given = warm_up_inputs(tmp_path, policy_folder, response="")
    digest = given.refs["dataset"].digest[:12]
    for change, message in (
        ({"target": "response"}, "of 6 samples of the split train, 6 have no `response`"),
        ({"max_completion_length": 3}, "6 have more than warmup.max_completion_length 3 tokens"),
    ):
        settings = WARMUP.model_copy(update=change)
        with pytest.raises(ValueError, match=f"dataset {digest}: no target.*{message}"):
            warm_up(**given.refs, settings=settings, training=TRAINING, context=given.context)


def test_an_answer_alone_keeps_the_prompts_format() -> None:
    choice = Sample(id="a", video="v", question="?", options=("red", "blue"), answer="B", task="multiple_choice")
    assert target_text(choice, "response_or_answer") == "<think></think><answer>B</answer>"
    spans = {"spans": ((1.0, 2.5), (4.0, 6.0))}
    grounded = Sample.model_validate({**choice.model_dump(), **spans, "task": "grounded_qa"})
    when = Sample(id="t", video="v", question="?", answer="1 to 2.5", task="temporal_grounding", spans=((1.0, 2.5),))
    for sample in (choice, grounded, when):
        text = target_text(sample, "answer")
        assert format_reward(sample, text) == 1 and is_right(sample, text)
    taught = choice.model_copy(update={"response": "<think>It is blue.</think><answer>B</answer>"})
    texts = {name: target_text(taught, name) for name in ("response", "answer", "response_or_answer")}
    assert texts["response"] == texts["response_or_answer"] == taught.response != texts["answer"]
    assert target_text(choice, "response") == ""


def test_targets_end_with_eos_and_stand_under_the_rounds_own_prompt(policy_folder: Path, tmp_path: Path) -> None:
    given = warm_up_inputs(tmp_path, policy_folder)
    processor, reader = load_processor(policy_folder), DatasetReader(given.store.get(given.refs["dataset"]))
    made = make_targets(reader, processor, "response", 1024, lambda: None)
    assert [group.sample_id for group in made.groups] == [f"s{i:02d}" for i in range(5)] and made.without == 1
    for group in made.groups:
        (response,) = group.responses
        assert response.token_ids[-1] == processor.tokenizer.eos_token_id
        assert processor.tokenizer.decode(response.token_ids[:-1]) == ANSWERS[1]
        assert ANSWERS[1] not in processor.tokenizer.decode(group.prompt_token_ids)


def test_the_loss_is_the_mean_over_a_steps_tokens() -> None:
    """Cross-entropy by hand: two groups of one response, of 3 and of 1 token; 4 tokens, 2 a group."""
    logprobs = torch.tensor([[[-1.0, -2.0, -3.0]], [[-4.0, 0.0, 0.0]]], requires_grad=True)
    tokens = torch.tensor([[[True, True, True]], [[True, False, False]]])
    every = torch.ones(2, 1, dtype=torch.bool)
    inputs = LossInputs(
        logprobs=logprobs, old_logprobs=logprobs, ref_logprobs=None, tokens=tokens, responses=every,
        rewards=torch.ones(2, 1), advantages=torch.zeros(2, 1), informative=~every[:, 0], tokens_per_group=2.0,
    )  # fmt: skip
    losses = sft(inputs, supervised(WARMUP, TRAINING, 2))
    assert losses.mean().item() == pytest.approx((1 + 2 + 3 + 4) / 4)
    losses.mean().backward()
    assert logprobs.grad is not None and torch.equal(logprobs.grad[tokens], torch.full((4,), -0.25))


def test_training_and_warm_up_settings_make_the_workers(tmp_path: Path) -> None:
    made = supervised(WARMUP, TRAINING.model_copy(update={"zero_stage": 3, "offload_param": True}), 7)
    assert (made.steps_per_generation, made.num_iterations, made.max_steps, made.warmup_steps) == (3, 12, 36, 3)
    assert made.zero_stage == 3 and made.offload_param
    assert not made.needs_reference and made.declared.smallest_group == 1
    assert type(made).model_validate(json.loads(made.model_dump_json())) == made
