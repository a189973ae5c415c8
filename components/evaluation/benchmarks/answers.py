"""Generated answers, kept chunk by chunk under everything that determines them: a rerun asks for what is missing alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from components.shared.files import sha256_bytes
from components.shared.schemas import Record
from components.shared.store import Store

ANSWERS = "answers"  # where they lie in the store


class Answer(Record):
    """One answer as the model gave it. `key` is a digest of all that determines it."""

    id: str
    key: str
    text: str
    tokens: int
    stopped: bool  # False: cut off at the protocol's max_new_tokens


def answer_key(determined_by: Mapping[str, Any]) -> str:
    """The key of an answer that these determine. They are anything JSON can hold."""
    return sha256_bytes(json.dumps(determined_by, sort_keys=True, ensure_ascii=False).encode())


class AnswerBook:
    """The answers of one policy to one benchmark, under whatever protocols, as far as the store has them."""

    def __init__(self, store: Store, policy: str, benchmark: str) -> None:
        self._store, self._root = store, f"{ANSWERS}/{policy}/{benchmark}"
        self._known: dict[str, Answer] = {}
        for raw in store.read_objects(store.list_objects(self._root)).values():
            self._learn(Answer.model_validate_json(line) for line in (raw or b"").splitlines())

    def find(self, key: str) -> Answer | None:
        """The answer of a key, None if it was not given yet."""
        return self._known.get(key)

    def keep(self, answers: Sequence[Answer]) -> None:
        """Store a chunk of answers as one object, whole or not at all."""
        if not answers:
            return
        name = sha256_bytes(*(answer.key.encode() for answer in answers))[:32]
        lines = "".join(answer.model_dump_json() + "\n" for answer in answers)
        self._store.write_object(f"{self._root}/{name}.jsonl", lines.encode())
        self._learn(answers)

    def _learn(self, answers: Iterable[Answer]) -> None:
        self._known |= {answer.key: answer for answer in answers}
