"""How alike two texts are: word error rate for transcriptions, ROUGE for free answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def word_error_rate(reference: Sequence[str], hypothesis: Sequence[str]) -> float:
    """Substituted, deleted and inserted words over the reference's words: Levenshtein's distance / len(reference).

    Above 1 where much is inserted. Raises ValueError for a reference without words.
    """
    if not reference:
        raise ValueError("word error rate: the reference has no words")
    row = list(range(len(hypothesis) + 1))
    for i, expected in enumerate(reference, start=1):
        above, row[0] = row[0], i
        for j, given in enumerate(hypothesis, start=1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (expected != given))
    return row[-1] / len(reference)


def rouge_n(reference: Sequence[str], hypothesis: Sequence[str], n: int) -> float:
    """F1 of the shared n-grams, each counted as often as both have it (Lin, "ROUGE", 2004, section 2). 0 if none."""
    expected, given = _grams(reference, n), _grams(hypothesis, n)
    return _f1((expected & given).total(), expected.total(), given.total())


def rouge_l(reference: Sequence[str], hypothesis: Sequence[str]) -> float:
    """F1 of the longest common subsequence (Lin 2004, section 3.1, with beta 1). 0 if there is none."""
    row = [0] * (len(hypothesis) + 1)
    for expected in reference:
        above = 0
        for j, given in enumerate(hypothesis, start=1):
            above, row[j] = row[j], above + 1 if expected == given else max(row[j], row[j - 1])
    return _f1(row[-1], len(reference), len(hypothesis))


def mean_rouge(reference: Sequence[str], hypothesis: Sequence[str]) -> float:
    """The mean F1 of ROUGE-1, ROUGE-2 and ROUGE-L, in [0, 1]; equal texts have 1.

    ROUGE-2 is left out where either text has a single word: it would be 0 for equal ones.
    """
    parts = [rouge_n(reference, hypothesis, 1), rouge_l(reference, hypothesis)]
    if len(reference) > 1 and len(hypothesis) > 1:
        parts.append(rouge_n(reference, hypothesis, 2))
    return sum(parts) / len(parts)


def _grams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[i:] for i in range(n)), strict=False))


def _f1(shared: int, expected: int, given: int) -> float:
    return 2 * shared / (expected + given) if shared else 0.0
