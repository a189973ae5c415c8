"""The policy's tokenizer without the rest of its processor: for cutting hints and checking ids."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer

from components.shared.prompts import BANNED_TOKENS


def load_tokenizer(policy: Path) -> Tokenizer:
    """The tokenizer of a policy folder. Raises ValueError if the folder has no tokenizer.json."""
    path = policy / "tokenizer.json"
    if not path.is_file():
        raise ValueError(f"{path} is missing: a policy needs its fast tokenizer; save it with the policy's processor")
    return Tokenizer.from_file(str(path))


def banned_among(tokenizer: Tokenizer, token_ids: Iterable[int]) -> list[int]:
    """Those of the ids that no response may have: vision tokens, and ids that the tokenizer does not know."""
    vision = {tokenizer.token_to_id(token) for token in BANNED_TOKENS}
    return sorted({token for token in token_ids if token in vision or tokenizer.id_to_token(token) is None})
