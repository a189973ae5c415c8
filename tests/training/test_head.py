"""Log-probs and entropies by chunks against PyTorch's log-softmax over all positions at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from components.training.head import ScoringHead

POSITIONS, HIDDEN, VOCABULARY = 45, 16, 333
BANNED = torch.tensor([3, 77, 332])


def made(dtype: torch.dtype) -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    """A head, hidden states, and targets that are not banned."""
    torch.manual_seed(0)
    linear = nn.Linear(HIDDEN, VOCABULARY, bias=False, dtype=dtype)
    hidden = torch.randn(POSITIONS, HIDDEN, dtype=dtype, requires_grad=True)
    return linear, hidden, torch.randint(4, 70, (POSITIONS,))


@pytest.mark.parametrize("chunk", [1, 7, 45, 512])
def test_scores_and_gradients_are_those_of_one_log_softmax(chunk: int) -> None:
    linear, hidden, targets = made(torch.float64)
    weight = torch.randn(POSITIONS, dtype=torch.float64)
    logits = linear(hidden).index_fill(-1, BANNED, -1e300)
    expected = logits.log_softmax(-1)
    chosen = expected.gather(-1, targets[:, None])[:, 0]
    gradients = torch.autograd.grad((chosen * weight).sum(), (hidden, linear.weight))

    logprobs, entropies = ScoringHead(linear, chunk)(hidden, targets, BANNED)
    assert torch.allclose(logprobs, chosen, rtol=0, atol=1e-13)
    assert torch.allclose(entropies, -(expected.exp() * expected).sum(-1), rtol=0, atol=1e-12)
    assert not entropies.requires_grad
    got = torch.autograd.grad((logprobs * weight).sum(), (hidden, linear.weight))
    for ours, theirs in zip(got, gradients, strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


def test_a_bf16_head_scores_in_fp32() -> None:
    linear, hidden, targets = made(torch.bfloat16)
    logprobs, _ = ScoringHead(linear, 7)(hidden, targets, BANNED)
    logprobs.sum().backward()
    exact = (hidden.detach().float() @ linear.weight.detach().float().T).index_fill(-1, BANNED, -1e30).log_softmax(-1)
    assert logprobs.dtype == torch.float32
    assert torch.allclose(logprobs, exact.gather(-1, targets[:, None])[:, 0], rtol=0, atol=1e-5)
    assert hidden.grad.dtype == linear.weight.grad.dtype == torch.bfloat16


def test_a_frozen_head_gets_no_gradient_and_still_hands_one_on() -> None:
    linear, hidden, targets = made(torch.float64)
    reference = torch.autograd.grad(ScoringHead(linear, 7)(hidden, targets, BANNED)[0].sum(), hidden)[0]
    linear.weight.requires_grad_(False)
    ScoringHead(linear, 7)(hidden, targets, BANNED)[0].sum().backward()
    assert linear.weight.grad is None and torch.equal(hidden.grad, reference)


class Largest(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made


def test_neither_forward_nor_backward_holds_positions_times_vocabulary() -> None:
    linear, hidden, targets = made(torch.float32)
    held: list[int] = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda tensor: held.append(tensor.numel()) or tensor, lambda t: t)
    with Largest() as largest, hooks:
        ScoringHead(linear, 4)(hidden, targets, BANNED)[0].sum().backward()
    assert largest.elements == HIDDEN * VOCABULARY  # the weight's gradient; a chunk's logits are fewer
    assert max(held) == HIDDEN * VOCABULARY and sum(held) < HIDDEN * (VOCABULARY + 2 * POSITIONS)
