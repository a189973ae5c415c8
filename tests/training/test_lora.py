"""LoRA: only the adapted layers change, rounds go on exactly from the adapter, and nothing mixes with full training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from components.shared.context import StepContext
from components.shared.ledger import Outputs
from components.shared.sampling.artifacts import put_files
from components.shared.schemas import ArtifactRef
from components.training.checks import check_adapter
from components.training.settings import TrainingSettings
from components.training.state import Adapter, Progress
from components.training.step import train
from tests.killing import kill_at_every_checkpoint
from tests.training_fixtures import stored_inputs

MODULES = ("q_proj", "v_proj", "down_proj")
SETTINGS = TrainingSettings(
    lora_r=4, lora_alpha=8, lora_target_modules=MODULES, learning_rate=3e-3, beta=0.05, steps_per_generation=2,
    num_iterations=2, checkpoint_steps=2, dtype="float32",
)  # fmt: skip


def folder(given: SimpleNamespace, ref: ArtifactRef) -> Path:
    return given.context.open_store().get(ref)


@pytest.fixture(scope="module")
def rounds(policy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Two finished rounds over the same groups, undisturbed."""
    root = tmp_path_factory.mktemp("lora")
    given = SimpleNamespace(context=StepContext(store=str(root / "store"), seed=3, round=1))
    given.refs = stored_inputs(given.context.open_store(), root / "made", policy_folder, 4)
    given.first = train(**given.refs, settings=SETTINGS, context=given.context)
    given.second = train(
        **given.refs | given.first.artifacts, settings=SETTINGS, context=given.context.model_copy(update={"round": 2})
    )
    return given


def tensors(given: SimpleNamespace, ref: ArtifactRef) -> dict[str, torch.Tensor]:
    return load_file(folder(given, ref) / "model.safetensors")


def test_the_policy_is_the_base_with_the_adapter_merged_into_the_adapted_layers(rounds: SimpleNamespace) -> None:
    base = tensors(rounds, rounds.refs["policy"])
    for outputs in (rounds.first, rounds.second):
        after = tensors(rounds, outputs.artifacts["policy"])
        adapter = load_file(folder(rounds, outputs.artifacts["state"]) / "masters.safetensors")
        adapted = {
            name for name in base if any(f"{module}.weight" in name for module in MODULES) and "visual" not in name
        }
        assert len(adapter) == 2 * len(adapted) > 0
        assert {name for name in base if not torch.equal(base[name], after[name])} == adapted
        assert outputs.results["frozen_tensors_verified"] == len(base) - len(adapted)
        for name in adapted:
            layer = name.replace("model.", "model.language_model.", 1) if "language_model" not in name else name
            layer = layer.removesuffix(".weight")
            a, b = adapter[f"{layer}.lora_A.default.weight"], adapter[f"{layer}.lora_B.default.weight"]
            assert a.shape[0] == b.shape[1] == 4 and a.dtype == torch.float32
            assert torch.equal(after[name], base[name] + 2.0 * (b @ a)), name  # lora_alpha / lora_r = 2


def test_a_round_goes_on_from_the_adapter_and_the_base_stays_the_reference(rounds: SimpleNamespace) -> None:
    for outputs in (rounds.first, rounds.second):
        assert outputs.results["rho_std_at_unchanged_weights"] < 1e-5
    first, second = rounds.first.results["steps"], rounds.second.results["steps"]
    assert first[0]["kl"] == pytest.approx(0, abs=1e-8) and second[0]["kl"] > 1e-6
    assert [row["step"] for row in second] == [5, 6, 7, 8]


def test_merged_it_says_what_base_and_adapter_say_apart(rounds: SimpleNamespace) -> None:
    """A full round from the merged policy measures the same KL to the base at its first step as the adapter's round."""
    state = put_files(rounds.context.open_store(), "state", {"progress.json": b"{}"}, {"stop_reason": ""})
    refs = rounds.refs | {"policy": rounds.first.artifacts["policy"], "state": state}
    full = SETTINGS.model_copy(update={"lora_r": 0, "num_iterations": 1})
    outputs = train(**refs, settings=full, context=rounds.context.model_copy(update={"round": 2}))
    ours, theirs = outputs.results["steps"][0], rounds.second.results["steps"][0]
    for name in ("kl", "entropy", "loss"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-7), name


def test_killed_at_every_checkpoint_it_ends_in_the_same_bytes(
    rounds: SimpleNamespace, policy_folder: Path, tmp_path: Path
) -> None:
    context = StepContext(store=str(tmp_path / "store"), seed=3, round=1)
    refs = stored_inputs(context.open_store(), tmp_path / "made", policy_folder, 4)
    assert kill_at_every_checkpoint("train", refs, context, settings=SETTINGS) >= 1
    again: Outputs = train(**refs, settings=SETTINGS, context=context)
    for name in ("policy", "state"):
        assert again.artifacts[name].digest == rounds.first.artifacts[name].digest, name


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lora_r": 8}, "LoRA of r 4, alpha 8 on .* the settings and inputs say LoRA of r 8"),
        ({"lora_r": 0}, "the settings and inputs say full training"),
        ({"lora_target_modules": ("q_proj",)}, "on q_proj of policy"),
    ],
)
def test_a_state_refuses_another_adapter(changed: dict[str, object], message: str) -> None:
    def ref(kind: str, digest: str) -> ArtifactRef:
        return ArtifactRef(kind=kind, uri="file:///nowhere", digest=digest * 64, size=1)

    policy, base, state = ref("policy", "1"), ref("policy", "0"), ref("state", "2")
    before = Progress(policy=policy.digest, adapter=Adapter.of(SETTINGS, base.digest))
    check_adapter(state, before, before.adapter, policy, base)
    other = Adapter.of(SETTINGS.model_copy(update=changed), base.digest)
    with pytest.raises(ValueError, match=message):
        check_adapter(state, before, other, policy, base)
    with pytest.raises(ValueError, match="stands on the run's first policy"):
        check_adapter(state, Progress(), before.adapter, policy, base)
