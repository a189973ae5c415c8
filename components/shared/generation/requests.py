"""What both engines do before and after sampling: check the request, and turn token ids into a Response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.shared.generation import Prompt
from components.shared.policy_inputs import prompt_token_ids
from components.shared.schemas import Response


def checked_token_ids(
    processor: Any,
    prompts: Sequence[Prompt],
    *,
    n: int,
    seeds: Sequence[int],
    temperature: float,
    max_completion_length: int,
    max_model_len: int,
) -> list[tuple[int, ...]]:
    """The trainer's own token ids of every prompt. Raises ValueError on anything that cannot be sampled as asked."""
    if len(seeds) != len(prompts):
        raise ValueError(f"seeds: {len(seeds)} for {len(prompts)} prompts, there must be one a prompt")
    keys = [prompt.key for prompt in prompts]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise ValueError(f"prompts: the keys {twice[:5]} are used more than once")
    if n < 1 or max_completion_length < 1 or temperature < 0:
        raise ValueError(
            f"n ({n}) and max_completion_length ({max_completion_length}) must be positive, "
            f"temperature ({temperature}) must not be negative"
        )
    if temperature == 0 and n > 1:
        raise ValueError(f"n: {n} greedy responses to a prompt would all be equal; ask for 1, or for temperature > 0")
    token_ids = [prompt_token_ids(processor, prompt) for prompt in prompts]
    for prompt, ids in zip(prompts, token_ids, strict=True):
        if len(ids) + max_completion_length > max_model_len:
            raise ValueError(
                f"prompt {prompt.key}: {len(ids)} tokens and a response of up to {max_completion_length} do not fit "
                f"into max_model_len = {max_model_len}; raise it, or lower max_completion_length or the frames"
            )
    return token_ids


def check_same_prompt(key: str, seen: Sequence[int] | None, expected: Sequence[int]) -> None:
    """Raise RuntimeError, naming the first difference, unless the engine saw the tokens that the trainer will see."""
    seen = seen or ()
    if tuple(seen) == tuple(expected):
        return
    pairs = zip(seen, expected, strict=False)
    first = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(seen), len(expected)))
    raise RuntimeError(
        f"prompt {key}: the engine saw {len(seen)} tokens, the trainer would see {len(expected)}; they first differ at "
        f"position {first}: {list(seen[first : first + 5])} against {list(expected[first : first + 5])}"
    )


def make_response(
    processor: Any, *, index: int, seed: int, token_ids: Sequence[int], logprobs: Sequence[float], stopped: bool
) -> Response:
    """The response of these tokens. Its text has no special tokens, its ids keep EOS."""
    return Response(
        index=index,
        seed=seed,
        token_ids=tuple(token_ids),
        text=processor.tokenizer.decode(list(token_ids), skip_special_tokens=True),
        logprobs=tuple(logprobs),
        finish_reason="stop" if stopped else "length",
    )
