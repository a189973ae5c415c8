"""A packed group against one row a response, run through the model as Hugging Face wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from components.shared.dataset import DatasetReader
from components.shared.policy_inputs import PromptInputs, banned_token_ids, encode_prompt, load_processor
from components.shared.schemas import Group
from components.training.attention import rule
from components.training.forward import PackedPolicy
from components.training.packing import Span, batch, pack
from components.training.policy import load_policy, trainable
from components.training.prepare import group_prompt
from tests.training_fixtures import HINT, make_group, write_dataset

KINDS = ("none", "hint", "noise")


@pytest.fixture(scope="module")
def groups(policy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Group, PromptInputs]]:
    """Three groups: plain, hinted, noised; prompts and responses of different lengths."""
    dataset = tmp_path_factory.mktemp("packing") / "dataset"
    write_dataset(dataset, 3)
    made = [make_group(dataset, policy_folder, f"s0{i}", responses=5, kind=kind) for i, kind in enumerate(KINDS)]
    reader, processor = DatasetReader(dataset), load_processor(policy_folder)
    return [(group, encode_prompt(processor, group_prompt(group, reader))) for group in made]


def policy(folder: Path, chunk: int = 2048) -> PackedPolicy:
    return PackedPolicy(load_policy(folder, torch.float32), banned_token_ids(load_processor(folder)), chunk)


def packed_logprobs(model: PackedPolicy, groups: list[tuple[Group, PromptInputs]]) -> torch.Tensor:
    packs = [pack(inputs, [response.token_ids for response in group.responses]) for group, inputs in groups]
    features = torch.cat([model.visual_features(inputs) for _, inputs in groups])
    return model(batch(packs), features)[0]


def row_logprobs(model: Any, banned: tuple[int, ...], group: Group, inputs: PromptInputs) -> list[torch.Tensor]:
    """Each response's token log-probs from a row of its own: prompt, response, causal mask, pixels."""
    found = []
    for response in group.responses:
        ids = torch.cat((inputs.input_ids, torch.tensor(response.token_ids)))[None]
        after = inputs.next_position + torch.arange(len(response.token_ids)).expand(3, -1)
        logits = model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            position_ids=torch.cat((inputs.position_ids, after), 1)[:, None],
            pixel_values_videos=inputs.pixel_values_videos,
            video_grid_thw=inputs.video_grid_thw,
        ).logits[0]
        logits[:, list(banned)] = -torch.inf
        predicted = logits[len(inputs.input_ids) - 1 : -1].log_softmax(-1)
        found.append(predicted.gather(1, ids[0, len(inputs.input_ids) :, None])[:, 0])
    return found


def test_packed_log_probs_and_gradients_are_those_of_separate_rows(
    policy_folder: Path, groups: list[tuple[Group, PromptInputs]]
) -> None:
    model = policy(policy_folder)
    logprobs = packed_logprobs(model, groups)
    weight = torch.randn(logprobs.shape, generator=torch.Generator().manual_seed(0))
    (logprobs * weight).sum().backward()
    gradients = {name: parameter.grad for name, parameter in trainable(model.model).items()}

    rows = load_policy(policy_folder, torch.float32)
    banned = banned_token_ids(load_processor(policy_folder))
    total = torch.zeros(())
    for g, (group, inputs) in enumerate(groups):
        for r, expected in enumerate(row_logprobs(rows, banned, group, inputs)):
            got = logprobs[g, r, : len(expected)]
            assert (got - expected).abs().max().item() <= 1e-5
            assert not logprobs[g, r, len(expected) :].any()
            total = total + (expected * weight[g, r, : len(expected)]).sum()
    total.backward()
    compared = trainable(rows)
    assert compared.keys() == gradients.keys()
    for name, parameter in compared.items():
        difference = (parameter.grad - gradients[name]).norm() / parameter.grad.norm().clamp(min=1e-12)
        assert difference.item() <= 1e-4, name
    assert all(parameter.grad is None for parameter in model.model.model.visual.parameters())


def test_a_group_scores_the_same_alone_and_beside_others(
    policy_folder: Path, groups: list[tuple[Group, PromptInputs]]
) -> None:
    model = policy(policy_folder)
    with torch.no_grad():
        together = packed_logprobs(model, groups)
        for index, one in enumerate(groups):
            alone = packed_logprobs(model, [one])[0]
            assert (together[index, :, : alone.shape[1]] - alone).abs().max().item() <= 1e-5


def test_logits_in_chunks_and_recomputed_activations_change_nothing(
    policy_folder: Path, groups: list[tuple[Group, PromptInputs]]
) -> None:
    whole = policy(policy_folder)
    loss = packed_logprobs(whole, groups).sum()
    loss.backward()
    model = load_policy(policy_folder, torch.float32, gradient_checkpointing=True)
    chunked = PackedPolicy(model, banned_token_ids(load_processor(policy_folder)), lm_head_chunk=7)
    again = packed_logprobs(chunked, groups).sum()
    again.backward()
    assert again.item() == pytest.approx(loss.item(), rel=1e-6)
    for (name, one), other in zip(trainable(whole.model).items(), trainable(model).values(), strict=True):
        assert ((one.grad - other.grad).norm() / one.grad.norm()).item() <= 1e-4, name


def test_the_first_token_of_every_response_is_predicted_by_the_prompts_last(
    groups: list[tuple[Group, PromptInputs]],
) -> None:
    group, inputs = groups[0]
    one = pack(inputs, [response.token_ids for response in group.responses])
    last = len(inputs.input_ids) - 1
    assert one.sources[one.index == 0].tolist() == [last] * len(group.responses)
    later = one.index > 0
    assert one.input_ids[one.sources[later]].tolist() == [
        token for response in group.responses for token in response.token_ids[:-1]
    ]
    assert (
        one.position_ids[:, one.sources[later]].tolist() == [(inputs.next_position + one.index[later] - 1).tolist()] * 3
    )


def test_a_token_sees_its_prompt_and_its_own_response_up_to_itself() -> None:
    # two groups: a prompt of 2 with responses of 2, 0 and 1 tokens, and a prompt of 1 with one response of 1
    sees, index = rule([Span(2, (2, 0, 1)), Span(1, (1,))]), torch.arange(7)
    assert sees(index[:, None], index).int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1, 1],
    ]


def test_banned_ids_have_no_share_in_the_distribution(
    policy_folder: Path, groups: list[tuple[Group, PromptInputs]]
) -> None:
    free = PackedPolicy(load_policy(policy_folder, torch.float32), (), 2048)
    with torch.no_grad():
        masked, unmasked = packed_logprobs(policy(policy_folder), groups[:1]), packed_logprobs(free, groups[:1])
    tokens = unmasked != 0
    assert (masked[tokens] > unmasked[tokens]).all()


def test_the_hint_and_the_noise_reach_the_policy(groups: list[tuple[Group, PromptInputs]], policy_folder: Path) -> None:
    tokenizer = load_processor(policy_folder).tokenizer
    assert HINT in tokenizer.decode(groups[1][1].input_ids)
    assert HINT not in tokenizer.decode(groups[0][1].input_ids)
