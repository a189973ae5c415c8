"""The training step as a whole, with real DeepSpeed in processes of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.shared.context import StepContext
from components.shared.groups import groups_to_parquet
from components.shared.ledger import Outputs
from components.shared.processes import ChildFailed
from components.shared.sampling.artifacts import GROUPS, put_files, read_groups
from components.shared.schemas import ArtifactRef
from components.training.settings import TrainingSettings
from components.training.step import train
from tests.killing import kill_at_every_checkpoint
from tests.training_fixtures import stored_inputs

SETTINGS = TrainingSettings(
    learning_rate=1e-3,
    beta=0.05,
    steps_per_generation=3,
    num_iterations=2,
    micro_batch_tokens=400,
    checkpoint_steps=2,
    dtype="float32",
)


def folder(given: SimpleNamespace, ref: ArtifactRef) -> Path:
    return given.context.open_store().get(ref)


def weights(given: SimpleNamespace, outputs: Outputs) -> dict[str, torch.Tensor]:
    return load_file(folder(given, outputs.artifacts["policy"]) / "model.safetensors")


@pytest.fixture(scope="module")
def round_one(policy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """One finished round of 6 groups, undisturbed."""
    root = tmp_path_factory.mktemp("round")
    context = StepContext(store=str(root / "store"), seed=3, round=1)
    refs = stored_inputs(context.open_store(), root / "made", policy_folder, 6)
    return SimpleNamespace(context=context, refs=refs, outputs=train(**refs, settings=SETTINGS, context=context))


def test_a_round_trains_the_language_model_and_reports_every_step(round_one: SimpleNamespace) -> None:
    results = round_one.outputs.results
    before = load_file(folder(round_one, round_one.refs["policy"]) / "model.safetensors")
    after = weights(round_one, round_one.outputs)
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor) == ("visual" in name), name
    assert results["frozen_tensors_verified"] == sum("visual" in name for name in before)
    assert len(results["steps"]) == 6 and results["optimizer_steps"] == 6 and results["skipped_steps"] == 0
    assert results["series"]["global_step"] == [1, 2, 3, 4, 5, 6]
    first, last = results["steps"][0], results["steps"][-1]
    assert first["rho_std"] == pytest.approx(results["rho_std_at_unchanged_weights"], abs=1e-5)
    assert results["rho_std_at_unchanged_weights"] < 1e-5  # the same path
    assert first["kl"] == pytest.approx(0, abs=1e-8) and last["kl"] > 0 and last["rho_std"] > 0
    assert results["round/frac_reward_zero_std"] == pytest.approx(1 / 6)
    assert results["round/completions/clipped_ratio"] == pytest.approx(1 / 4)
    assert round_one.outputs.startup_seconds > 0


def test_asked_again_the_ledger_answers(round_one: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.training.step.train_here", lambda work: pytest.fail("trained again"))
    assert train(**round_one.refs, settings=SETTINGS, context=round_one.context) == round_one.outputs


def test_the_next_round_goes_on_where_the_state_is(round_one: SimpleNamespace) -> None:
    before = round_one.outputs.artifacts
    refs = {**round_one.refs, "policy": before["policy"], "state": before["state"]}
    context = round_one.context.model_copy(update={"round": 2})
    updates = {"steps_per_generation": 1, "num_iterations": 6, "stop_reward_patience": 1}
    settings = SETTINGS.model_copy(update=updates)
    outputs = train(**refs, settings=settings, context=context)
    assert outputs.results["series"]["global_step"] == [7, 8, 9, 10, 11, 12]
    assert outputs.results["steps"][0]["kl"] > 0  # against the run's first policy
    learned = outputs.results["series"]["advantage_rho_correlation"]
    assert learned[0] is None and learned[-1] > 0.5  # over the same groups: log-ratios lean the advantages' way
    progress = json.loads((folder(round_one, outputs.artifacts["state"]) / "progress.json").read_text())
    assert progress["global_step"] == 12 and progress["optimizer_steps"] == 12 and len(progress["history"]) == 2
    assert progress["policy"] == outputs.artifacts["policy"].digest
    # the rewards are round 1's: no new best, so the rule fires, and the round after hands everything on
    assert "no mean reward above" in str(outputs.artifacts["state"].metadata["stop_reason"])
    stopped = {**refs, "policy": outputs.artifacts["policy"], "state": outputs.artifacts["state"]}
    after = train(**stopped, settings=settings, context=context.model_copy(update={"round": 3}))
    assert after.artifacts == {"policy": stopped["policy"], "state": stopped["state"]}
    assert after.results == {"skipped": stopped["state"].metadata["stop_reason"]}
    with pytest.raises(ValueError, match="belongs to policy"):
        train(**{**refs, "policy": round_one.refs["policy"]}, settings=settings, context=context)


def test_killed_at_every_checkpoint_and_run_again_it_ends_in_the_same_bytes(
    round_one: SimpleNamespace, policy_folder: Path, tmp_path: Path
) -> None:
    context = StepContext(store=str(tmp_path / "store"), seed=3, round=1)
    store = context.open_store()
    refs = stored_inputs(store, tmp_path / "made", policy_folder, 6)
    assert {name: ref.digest for name, ref in refs.items()} == {n: ref.digest for n, ref in round_one.refs.items()}
    assert kill_at_every_checkpoint("train", refs, context, settings=SETTINGS) >= 1
    outputs = train(**refs, settings=SETTINGS, context=context)
    for name in ("policy", "state"):
        assert outputs.artifacts[name].digest == round_one.outputs.artifacts[name].digest, name
    without_time = [[{**row, "step_time": 0} for row in out.results["steps"]] for out in (outputs, round_one.outputs)]
    assert without_time[0] == without_time[1]
    assert len(list((tmp_path / "store/state").iterdir())) == 2  # the input's and the output's: no checkpoint is left
    assert store.list_objects("work") == []


def test_two_processes_train_as_one_does(round_one: SimpleNamespace) -> None:
    settings = SETTINGS.model_copy(update={"nproc_per_node": 2, "micro_batch_tokens": 1, "steps_per_generation": 2})
    two = train(**round_one.refs, settings=settings, context=round_one.context)
    one = train(**round_one.refs, settings=settings.model_copy(update={"nproc_per_node": 1}), context=round_one.context)
    ours, theirs = weights(round_one, two), weights(round_one, one)
    for name, tensor in ours.items():
        assert (tensor - theirs[name]).abs().max().item() < 2e-4, name  # a fifth of one Adam step
    for mine, other in zip(two.results["steps"], one.results["steps"], strict=True):
        for name in ("loss", "reward", "kl", "grad_norm", "num_tokens", "frac_reward_zero_std"):
            assert mine[name] == pytest.approx(other[name], rel=1e-3, abs=1e-6), name


def test_in_bf16_the_masters_travel_and_every_zero_stage_trains_alike(policy_folder: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    shutil.copytree(policy_folder, half)
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(half / "model.safetensors").items()}
    save_file(tensors, half / "model.safetensors", {"format": "pt"})
    context = StepContext(store=str(tmp_path / "store"), seed=3, round=1)
    refs = stored_inputs(context.open_store(), tmp_path / "made", half, 4)
    given = SimpleNamespace(context=context)
    updates = {"dtype": "bfloat16", "learning_rate": 1e-5, "zero_stage": 3, "checkpoint_steps": 0}
    settings = SETTINGS.model_copy(update=updates)
    first = train(**refs, settings=settings, context=context)
    masters = load_file(folder(given, first.artifacts["state"]) / "masters.safetensors")
    after = weights(given, first)
    norm, stored = masters["model.language_model.norm.weight"], after["model.norm.weight"]
    assert stored.dtype == torch.bfloat16 and torch.equal(norm.bfloat16(), stored)
    # six Adam steps of 1e-5 are below half the spacing of bf16 at 1, which is 2^-9: only the masters remember them
    assert torch.equal(stored, tensors["model.norm.weight"]) and not torch.equal(norm, stored.float())
    assert first.results["rho_std_at_unchanged_weights"] < 1e-6
    for stage in (1, 2):
        again = train(**refs, settings=settings.model_copy(update={"zero_stage": stage}), context=context)
        assert again.results["series"]["loss"] == pytest.approx(first.results["series"]["loss"], rel=1e-4), stage
        others = load_file(folder(given, again.artifacts["state"]) / "masters.safetensors")
        farthest = max((masters[name] - others[name]).abs().max().item() for name in masters)
        assert farthest < 1e-6, stage  # a tenth of one step
    # the next round starts from the masters: its first step's log-ratios are 0 under the same rounded weights
    updated = {**refs, **first.artifacts}
    settings = settings.model_copy(update={"zero_stage": 1})  # a state fits every stage
    second = train(**updated, settings=settings, context=context.model_copy(update={"round": 2}))
    newer = load_file(folder(given, second.artifacts["state"]) / "masters.safetensors")
    farthest = (newer["model.language_model.norm.weight"] - stored.float()).abs().max().item()
    assert farthest > 6.5e-5  # farther from the rounded weights than one round's six steps can lead
    assert second.results["rho_std_at_unchanged_weights"] < 1e-6


def test_in_bf16_a_policy_in_fp32_files_keeps_its_precision(round_one: SimpleNamespace) -> None:
    updates = {"dtype": "bfloat16", "learning_rate": 1e-6, "num_iterations": 1, "checkpoint_steps": 0}
    outputs = train(**round_one.refs, settings=SETTINGS.model_copy(update=updates), context=round_one.context)
    before = load_file(folder(round_one, round_one.refs["policy"]) / "model.safetensors")
    after = weights(round_one, outputs)
    farthest = max((after[name] - before[name]).abs().max().item() for name in before)
    assert 1e-6 < farthest < 4e-6  # three Adam steps; rounding to bf16 moves a weight by 2^-9 of itself, 1e-4 and more


def test_steps_that_are_not_finite_are_skipped_and_counted(
    round_one: SimpleNamespace, policy_folder: Path, tmp_path: Path
) -> None:
    store = round_one.context.open_store()
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in policy_folder.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"][0] = float("inf")
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    ref = store.put(broken, "policy")
    settings = SETTINGS.model_copy(update={"num_iterations": 1})
    outputs = train(**{**round_one.refs, "policy": ref, "reference": ref}, settings=settings, context=round_one.context)
    assert outputs.results["skipped_steps"] == 3 and outputs.results["optimizer_steps"] == 0
    assert outputs.results["series"]["loss"] == [None] * 3
    assert outputs.artifacts["policy"].digest == ref.digest


def test_prompts_that_the_sampler_did_not_see_are_refused_by_name(round_one: SimpleNamespace) -> None:
    store = round_one.context.open_store()
    groups = read_groups(store.get(round_one.refs["groups"]))
    other = groups[1].model_copy(update={"prompt_token_ids": groups[1].prompt_token_ids[:-1]})
    ref = put_files(store, "groups", {GROUPS: groups_to_parquet([groups[0], other])})
    with pytest.raises(ChildFailed, match="sample s01: the trainer's prompt has"):
        train(**{**round_one.refs, "groups": ref}, settings=SETTINGS, context=round_one.context)


def test_groups_that_cannot_be_trained_on_are_refused_before_a_process_starts(round_one: SimpleNamespace) -> None:
    store = round_one.context.open_store()
    group = read_groups(store.get(round_one.refs["groups"]))[0]
    alone = group.model_copy(update={"responses": group.responses[:1]})
    empty_response = group.responses[0].model_copy(update={"token_ids": (), "logprobs": ()})
    empty = group.model_copy(update={"responses": (*group.responses[1:], empty_response)})
    for bad, message in ((alone, "needs at least 2"), (empty, "token_ids is empty")):
        ref = put_files(store, "groups", {GROUPS: groups_to_parquet([bad])})
        with pytest.raises(ValueError, match=f"sample s00.*{message}"):
            train(**{**round_one.refs, "groups": ref}, settings=SETTINGS, context=round_one.context)


def test_a_round_without_groups_hands_policy_and_state_on(round_one: SimpleNamespace) -> None:
    ref = put_files(round_one.context.open_store(), "groups", {GROUPS: groups_to_parquet([])})
    outputs = train(**{**round_one.refs, "groups": ref}, settings=SETTINGS, context=round_one.context)
    assert outputs.artifacts == {"policy": round_one.refs["policy"], "state": round_one.refs["state"]}
    assert "no groups" in str(outputs.results["skipped"])
