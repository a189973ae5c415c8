"""Packed groups against one row a response, run through the model as Hugging Face wrote it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from components.shared.dataset import DatasetReader
from components.shared.families import FAMILIES
from components.shared.policy_inputs import (
    PromptInputs,
    banned_token_ids,
    encode_prompt,
    load_processor,
    model_inputs,
)
from components.shared.schemas import Group
from components.training.attention import rule
from components.training.forward import PackedPolicy
from components.training.packing import PackedBatch, Span, batch, pack, packed_tokens
from components.training.policy import load_policy, trainable
from components.training.prepare import group_prompt
from tests.training_fixtures import HINT, make_group, write_dataset

KINDS = ("none", "hint", "noise", "none")
RESPONSES = (5, 4, 3, 2)
Groups = list[tuple[Group, PromptInputs]]


@dataclass(frozen=True)
class Given:
    """A family's policy and four groups for it: plain, hinted beside an image, noised, plain beside an image.

    Their videos have 2, 4, 6 and 2 frames; prompts and responses are of different lengths, their number too.
    """

    folder: Path
    groups: Groups

    @functools.cached_property
    def rows(self) -> tuple[list[list[torch.Tensor]], dict[str, torch.Tensor]]:
        """Log-probs by group and response, and gradients, of one row a response."""
        return by_rows(load_policy(self.folder, torch.float32), self)


@pytest.fixture(scope="module")
def families(policy_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Given]:
    dataset = tmp_path_factory.mktemp("packing") / "dataset"
    write_dataset(dataset, len(KINDS))
    reader, made = DatasetReader(dataset), {}
    for family, folder in policy_folders.items():
        groups = [
            make_group(dataset, folder, f"s0{i}", responses=count, kind=kind)
            for i, (kind, count) in enumerate(zip(KINDS, RESPONSES, strict=True))
        ]
        processor = load_processor(folder)
        made[family] = Given(
            folder, [(group, encode_prompt(processor, group_prompt(group, reader))) for group in groups]
        )
    return made


@pytest.fixture(scope="module")
def given(families: dict[str, Given]) -> Given:
    """Those of Qwen2.5-VL."""
    return families["qwen2_5_vl"]


def policy(folder: Path, attention: Any = "auto", chunk: int = 512, checkpointing: bool = False) -> PackedPolicy:
    model = load_policy(folder, torch.float32, gradient_checkpointing=checkpointing)
    return PackedPolicy(model, banned_token_ids(load_processor(folder)), chunk, attention)


def packed(model: PackedPolicy, groups: Groups) -> tuple[PackedBatch, torch.Tensor]:
    packs = [pack(inputs, [response.token_ids for response in group.responses]) for group, inputs in groups]
    return batch(packs), torch.cat([model.visual_features(inputs) for _, inputs in groups])


def packed_logprobs(model: PackedPolicy, groups: Groups) -> torch.Tensor:
    return model(*packed(model, groups))[0]


def weights(group: int, response: int, count: int) -> torch.Tensor:
    """What a response's log-probs are multiplied by before they are summed up."""
    return torch.randn(count, generator=torch.Generator().manual_seed(10 * group + response))


def by_rows(model: Any, given: Given) -> tuple[list[list[torch.Tensor]], dict[str, torch.Tensor]]:
    """Each response from a row of its own: prompt, response, causal mask, pixels; and gradients of the weighted sum."""
    banned, found = list(banned_token_ids(load_processor(given.folder))), []
    for g, (group, inputs) in enumerate(given.groups):
        found.append([])
        for r, response in enumerate(group.responses):
            arguments = model_inputs(inputs, "cpu")
            ids = torch.cat((inputs.input_ids, torch.tensor(response.token_ids)))[None]
            after = inputs.next_position + torch.arange(len(response.token_ids)).expand(3, -1)
            arguments |= {
                "input_ids": ids,
                "attention_mask": torch.ones_like(ids),
                "position_ids": torch.cat((inputs.position_ids, after), 1)[:, None],
                "mm_token_type_ids": None,
            }
            logits = model(**arguments).logits[0]
            logits[:, banned] = -torch.inf
            predicted = logits[len(inputs.input_ids) - 1 : -1].log_softmax(-1)
            logprobs = predicted.gather(1, ids[0, len(inputs.input_ids) :, None])[:, 0]
            (logprobs * weights(g, r, len(logprobs)).to(logprobs)).sum().backward()
            found[-1].append(logprobs.detach())
    return found, {name: parameter.grad for name, parameter in trainable(model).items()}


def by_groups(model: PackedPolicy, passes: list[list[int]], given: Given) -> list[list[torch.Tensor]]:
    """The same from packed groups, those of a list in one forward pass. Gradients are in the model then."""
    found: list[list[torch.Tensor]] = [[] for _ in given.groups]
    for micro in passes:
        logprobs = packed_logprobs(model, [given.groups[g] for g in micro])
        total = torch.zeros((), dtype=logprobs.dtype)
        for row, g in enumerate(micro):
            for r, response in enumerate(given.groups[g][0].responses):
                count = len(response.token_ids)
                assert not logprobs[row, r, count:].any()
                total = total + (logprobs[row, r, :count] * weights(g, r, count).to(logprobs)).sum()
                found[g].append(logprobs[row, r, :count].detach())
        total.backward()
    return found


def assert_same(model: PackedPolicy, found: Any, rows: Any, logprob: float, gradient: float) -> None:
    """Log-probs within `logprob`, every parameter's gradient within `gradient` of its norm."""
    expected, gradients = rows
    for ours, theirs in zip(found, expected, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert (one - other).abs().max().item() <= logprob
    parameters = trainable(model.model)
    assert parameters.keys() == gradients.keys()
    for name, parameter in parameters.items():
        difference = (parameter.grad - gradients[name]).norm() / gradients[name].norm().clamp(min=1e-12)
        assert difference.item() <= gradient, name
    assert all(parameter.grad is None for parameter in model.model.model.visual.parameters())


ONE_EACH, TOGETHER = [[0], [1], [2], [3]], [[2, 0, 3, 1]]


@pytest.mark.parametrize("passes", [ONE_EACH, [[0, 1], [3, 2]], TOGETHER], ids=len)
@pytest.mark.parametrize("attention", ["dense", "split"])
@pytest.mark.parametrize("family", FAMILIES)
def test_log_probs_and_gradients_are_those_of_separate_rows(
    family: str, attention: str, passes: list[list[int]], families: dict[str, Given]
) -> None:
    given = families[family]
    model = policy(given.folder, attention)
    assert_same(model, by_groups(model, passes, given), given.rows, 1e-5, 1e-5)


@pytest.mark.parametrize("attention", ["dense", "split"])
def test_so_they_are_with_recomputed_activations_and_few_logits_at_a_time(attention: str, given: Given) -> None:
    model = policy(given.folder, attention, chunk=7, checkpointing=True)
    assert model.model.model.language_model.layers[0].training  # else nothing would be recomputed
    assert_same(model, by_groups(model, TOGETHER, given), given.rows, 1e-5, 1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_in_fp64_nothing_is_left_of_the_difference(family: str, families: dict[str, Given]) -> None:
    given = families[family]
    rows = by_rows(in_fp64(load_policy(given.folder, torch.float32)), given)
    model = policy(given.folder, "split")
    in_fp64(model)
    assert_same(model, by_groups(model, TOGETHER, given), rows, 1e-9, 1e-9)


def in_fp64(model: Any) -> Any:
    """The model in fp64, its language model's norms too, which transformers computes in fp32 always."""
    for module in model.double().modules():
        if hasattr(module, "variance_epsilon"):
            module.forward = functools.partial(_rms_norm, module)
    return model


def _rms_norm(module: Any, hidden: torch.Tensor) -> torch.Tensor:
    return module.weight * hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + module.variance_epsilon)


def test_groups_stand_end_to_end_without_padding(given: Given) -> None:
    packs = [pack(inputs, [response.token_ids for response in group.responses]) for group, inputs in given.groups]
    one = batch(packs)
    expected = [
        packed_tokens(len(group.prompt_token_ids), [len(response.token_ids) for response in group.responses])
        for group, _ in given.groups
    ]
    assert [span.tokens for span in one.spans] == expected and len(set(expected)) == len(expected)
    assert one.input_ids.shape == (sum(expected),) and one.position_ids.shape == (3, sum(expected))
    for row, (group, _) in enumerate(given.groups):
        lengths = [len(response.token_ids) for response in group.responses]
        assert one.tokens[row].sum(-1).tolist() == lengths + [0] * (max(RESPONSES) - len(lengths))


def test_the_first_token_of_every_response_is_predicted_by_its_prompts_last(given: Given) -> None:
    packs = [pack(inputs, [response.token_ids for response in group.responses]) for group, inputs in given.groups[:2]]
    both, start = batch(packs), packs[0].span.tokens
    count = len(packs[0].sources)
    for sources, offset, one, (group, inputs) in (
        (both.sources[:count], 0, packs[0], given.groups[0]),
        (both.sources[count:], start, packs[1], given.groups[1]),
    ):
        last, later = offset + len(inputs.input_ids) - 1, one.index > 0
        assert sources[~later].tolist() == [last] * len(group.responses)
        tokens = [token for response in group.responses for token in response.token_ids[:-1]]
        assert both.input_ids[sources[later]].tolist() == tokens
        positions = (inputs.next_position + one.index[later] - 1).tolist()
        assert both.position_ids[:, sources[later]].tolist() == [positions] * 3


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


def test_batches_share_nothing(given: Given) -> None:
    model = policy(given.folder, "split")
    first, second = packed(model, given.groups[:1]), packed(model, given.groups[1:])
    before = model(*first)[0]
    later = model(*second)[0]  # another plan before the first one's backward pass
    before.sum().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in trainable(model.model).items()}
    model.zero_grad()
    model(*first)[0].sum().backward()
    assert all(torch.equal(parameter.grad, gradients[name]) for name, parameter in trainable(model.model).items())
    assert torch.equal(model(*second)[0], later)


def test_banned_ids_have_no_share_in_the_distribution(given: Given) -> None:
    free = PackedPolicy(load_policy(given.folder, torch.float32), (), 512)
    with torch.no_grad():
        masked, unmasked = (
            packed_logprobs(policy(given.folder), given.groups[:1]),
            packed_logprobs(free, given.groups[:1]),
        )
    tokens = unmasked != 0
    assert (masked[tokens] > unmasked[tokens]).all()


def test_hint_noise_and_image_reach_the_policy(given: Given) -> None:
    processor = load_processor(given.folder)
    hinted = [HINT in processor.tokenizer.decode(inputs.input_ids) for _, inputs in given.groups]
    assert hinted == [kind == "hint" for kind in KINDS]
    assert [inputs.pixel_values is not None for _, inputs in given.groups] == [False, True, False, True]
    assert [int(inputs.video_grid_thw[0, 0]) for _, inputs in given.groups] == [1, 2, 3, 1]
    model = policy(given.folder)
    group, inputs = given.groups[1]
    with torch.no_grad():
        rows, features = packed(model, [(group, inputs)])
        image = int((inputs.mm_token_type_ids == 1).sum())
        assert image == 6 and len(features) == image + int((inputs.mm_token_type_ids == 2).sum())
        seen = model(rows, features)[0]
        for part in (slice(0, -image), slice(-image, None)):  # the video stands first
            changed = features.clone()
            changed[part] += 1
            assert not torch.allclose(model(rows, changed)[0], seen, atol=1e-4)
