"""How lmms-eval 0.7.3 reads a letter on Video-MME and Video-MMMU: nine ways, tried in order; the official scorers have others.

Facts from lmms_eval/tasks/_task_utils/mcq_extract.py#extract_mcq_answer. Of one way's finds the one that stands last counts.
"""

from __future__ import annotations

from collections.abc import Callable

from components.evaluation.benchmarks.crosscheck.contracts import Answered, Rule, Score, scored_as
from components.shared.prompts import option_letter

_EDGES = (",", ".", "!", "?", ";", ":", "'", '"')
_NOUNS = (
    "answer", "correct answer", "best answer", "correct option", "best option", "choice", "correct choice",
)  # fmt: skip
_LEADS = (
    *(f"{noun} is" for noun in _NOUNS),
    *(f"the {noun} is" for noun in _NOUNS),
    "my answer is", "my choice is", "i choose", "i select", "i pick",
    "옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは",
)  # fmt: skip
Finder = Callable[[str, str], str | None]  # response without its edges, option letters -> the letter that is found


def _begins(text: str, letters: str) -> str | None:
    bare = text.strip()
    return bare[0] if bare and bare[0] in letters and not bare[1:2].isalpha() else None


def _ends(text: str, letters: str) -> str | None:
    bare = text.strip()
    return bare[-1] if bare and bare[-1] in letters and not bare[-2:-1].isalpha() else None


def _after_lead(text: str, letters: str) -> str | None:
    small = text.lower()
    ends = [small.find(lead) + len(lead) for lead in _LEADS if lead in small]
    places = {text.find(letter, end): letter for end in ends for letter in letters}
    places.pop(-1, None)
    return places[max(places)] if places else None


def _marked(mark: str) -> Finder:
    def find(text: str, letters: str) -> str | None:
        places = {text.rfind(mark.format(letter)): letter for letter in letters}
        places.pop(-1, None)
        return places[max(places)] if places else None

    return find


_WAYS: tuple[tuple[str, str, Finder], ...] = (
    ("first letter", "a letter that the response begins with counts, whatever is named later", _begins),
    ("last letter", "a letter that the response ends with counts, whatever is named before", _ends),
    (
        "after a lead-in",
        'after "the answer is" and the like each letter\'s first capital is sought, also inside words, and the last one counts',
        _after_lead,
    ),
    ("in brackets", "the last `(X)` counts", _marked("({})")),
    ("with a point", "the last `X.` counts, also at a word's end", _marked("{}.")),
    ("with a colon", "the last `X:` counts, also at a word's end", _marked("{}:")),
    ("with a bracket", "the last `X)` counts", _marked("{})")),
    ("before a blank", "the last capital before a blank counts, also at a word's end", _marked("{} ")),
    ("any capital", "where nothing else is found the last capital among the letters counts, also inside words", _marked("{}")),
)  # fmt: skip


def letter_rules(applies: Callable[[Answered], bool] = lambda answered: True) -> tuple[Rule, ...]:
    """A rule for each way, for the responses that `applies` is true of, and one for those in which no letter is found."""
    ways = [Rule(name, why, _reading(find, applies)) for name, why, find in _WAYS]
    none = Rule(
        "no letter",
        "a response without any capital among the letters is wrong; it is never left out",
        lambda answered: scored_as(False) if applies(answered) else None,
    )
    return (*ways, none)


def _reading(find: Finder, applies: Callable[[Answered], bool]) -> Callable[[Answered], frozenset[Score] | None]:
    def foretells(answered: Answered) -> frozenset[Score] | None:
        if not applies(answered):
            return None
        letters = "".join(option_letter(index) for index in range(len(answered.sample.options)))
        letter = find(_without_edges(answered.text), letters)
        return None if letter is None else scored_as(letter == answered.sample.answer)

    return foretells


def _without_edges(text: str) -> str:
    """Punctuation off both ends, a kind at a time, and a blank put there."""
    bare = text.strip()
    for char in _EDGES:
        bare = bare.strip(char)
    return f" {bare} "
