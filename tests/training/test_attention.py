"""Every implementation of a packed group's attention against the formula, one token at a time."""

from __future__ import annotations

import math

import pytest
import torch

from components.training.attention import attention, choose, flex, rule
from components.training.packing import Span

# a long response, one without packed tokens, a prompt of one token, a group of one response
SPANS = (Span(37, (5, 0, 21, 1)), Span(1, (3, 2)), Span(9, (4,)))
CPU = torch.device("cpu")


def states(dtype: torch.dtype, heads: int = 4, key_heads: int = 2) -> list[torch.Tensor]:
    """Query, key and value (1, heads, L, 8), laid out in memory as a model's layers leave them."""
    generator = torch.Generator().manual_seed(0)
    length = sum(span.tokens for span in SPANS)
    shapes = ((1, length, count, 8) for count in (heads, key_heads, key_heads))
    made = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    return [tensor.transpose(1, 2).requires_grad_() for tensor in made]


def plain(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """softmax(q k scale) v over the keys that the token sees, (1, L, heads, 8)."""
    share = query.shape[1] // key.shape[1]
    sees, index = rule(SPANS), torch.arange(query.shape[2])
    rows = []
    for token in index:
        seen = index[sees(token.expand(len(index)), index)]
        heads = []
        for head in range(query.shape[1]):
            scores = key[0, head // share, seen] @ query[0, head, token] * scale
            heads.append(scores.softmax(-1) @ value[0, head // share, seen])
        rows.append(torch.stack(heads))
    return torch.stack(rows)[None]


def results(output: torch.Tensor, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """The output and the gradients of a weighted sum of it."""
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [output.detach(), *torch.autograd.grad((output * weight.to(output)).sum(), inputs)]


@pytest.mark.parametrize("implementation", ["dense", "split"])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-13), (torch.float32, 2e-6)])
def test_outputs_and_gradients_are_those_of_the_formula(
    implementation: str, dtype: torch.dtype, tolerance: float
) -> None:
    exact, given = states(torch.float64), states(dtype)
    expected = results(plain(*exact, 0.3), exact)
    attend = attention(SPANS, implementation, dtype, CPU)
    got = results(attend(*given, 0.3), given)
    for name, ours, theirs in zip(("output", "query", "key", "value"), got, expected, strict=True):
        assert ours.dtype == dtype and ours.shape == theirs.shape
        assert (ours - theirs).abs().max().item() <= tolerance * theirs.abs().max().item(), name


@pytest.mark.parametrize("heads, key_heads", [(3, 3), (6, 1)])
def test_heads_may_have_keys_of_their_own_or_share_one(heads: int, key_heads: int) -> None:
    given = states(torch.float64, heads, key_heads)
    expected = results(plain(*given, 0.3), given)
    for implementation in ("dense", "split"):
        got = results(attention(SPANS, implementation, torch.float64, CPU)(*given, 0.3), given)
        assert all(torch.allclose(ours, theirs, rtol=0, atol=1e-12) for ours, theirs in zip(got, expected, strict=True))


def test_split_gives_the_same_bits_every_time() -> None:
    given = states(torch.float32)
    attend = attention(SPANS, "split", torch.float32, CPU)
    first, again = (results(attend(*given, 0.3), given) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


def test_a_group_attends_the_same_alone_and_beside_others() -> None:
    given = states(torch.float64)
    whole = attention(SPANS, "split", torch.float64, CPU)(*given, 0.3)
    start = SPANS[0].tokens
    alone = [tensor[:, :, start : start + SPANS[1].tokens] for tensor in given]
    part = attention(SPANS[1:2], "split", torch.float64, CPU)(*alone, 0.3)
    assert torch.allclose(whole[:, start : start + SPANS[1].tokens], part, rtol=0, atol=1e-13)


def test_split_holds_no_scores_and_no_copies_of_the_prompts_keys() -> None:
    given = states(torch.float32)
    held: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: held.append(tensor.numel()) or tensor, lambda t: t):
        attention(SPANS, "split", torch.float32, CPU)(*given, 0.3)
    query, key, value = (tensor.numel() for tensor in given)
    assert sum(held) == 2 * query + key + value + query // 8  # the inputs, the output and a number a query


def test_the_choice_follows_from_the_shape() -> None:
    small, large = [Span(60, (12,) * 8)], [Span(2048, (128,) * 8)]
    assert choose(small, 4, 32, "cpu") == "dense"
    assert choose(large, 16, 64, "cpu") == "split"
    assert choose(small * 4, 4, 32, "cpu") == "dense"  # groups do not see each other
    assert choose(small, 4, 32, "cuda") == choose(large, 16, 64, "cuda") == "flex"


@pytest.mark.parametrize("implementation, device", [("split", "meta"), ("flex", "cpu")])
def test_an_implementation_that_is_not_for_the_device_is_refused(implementation: str, device: str) -> None:
    with pytest.raises(
        ValueError, match=f"attention: {implementation} does not train on {device}: choose auto or dense"
    ):
        attention(SPANS, implementation, torch.float32, torch.device(device))


def test_flex_attention_is_the_formula_and_skips_empty_blocks() -> None:
    given = [state.detach() for state in states(torch.float64)]  # on CPUs it has no backward pass
    attend = flex(SPANS, CPU)
    assert torch.allclose(attend(*given, 0.3), plain(*given, 0.3), rtol=0, atol=1e-12)
    # blocks of 128: two prompts of 3 blocks with 2 responses of 1 block; per group 6 + 2 * 3 + 2 of 25, and nothing between
    mask = flex([Span(384, (128, 128))] * 2, CPU).keywords["block_mask"]
    assert mask.sparsity() == pytest.approx(100 * (1 - 2 * 14 / 100))


def test_scores_are_scaled_as_asked() -> None:
    given = states(torch.float64)
    for implementation in ("dense", "split"):
        attend = attention(SPANS, implementation, torch.float64, CPU)
        doubled = attend(2 * given[0], *given[1:], 0.15)
        assert torch.allclose(attend(*given, 0.3), doubled, rtol=0, atol=1e-13)
        assert not math.isclose(attend(*given, 0.1).sum().item(), doubled.sum().item(), rel_tol=1e-3)
