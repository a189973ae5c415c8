"""When too much of the data is lost to go on."""

from __future__ import annotations

from collections.abc import Sequence

from components.ingest.annotations import HELD_OUT
from components.ingest.errors import IngestError
from components.ingest.selection import DUPLICATE
from components.shared.schemas import TRAIN_SPLIT, TUNING_SPLIT, Quarantined

_REASONS, _NAMES = 4, 3  # how many of them a message lists
_REMEDIES = {
    "prompt_too_long": "raise ingest.max_prompt_length, or choose fewer or smaller frames",
    "decode_timeout": "raise ingest.decode_timeout",
}


def counts_by_reason(quarantine: Sequence[Quarantined]) -> dict[str, int]:
    """Samples lost to each reason, the most frequent reason first; duplicates are not lost, their first copy stays."""
    found: dict[str, int] = {}
    for item in quarantine:
        if item.reason != DUPLICATE:
            found[item.reason] = found.get(item.reason, 0) + item.samples
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def check_losses(quarantine: Sequence[Quarantined], total: int, max_fraction: float) -> None:
    """Raise IngestError, with main reasons and names, if more than `max_fraction` of `total` samples are lost."""
    counts = counts_by_reason(quarantine)
    lost = sum(counts.values())
    if lost <= max_fraction * total:
        return
    reasons = []
    for reason, count in list(counts.items())[:_REASONS]:
        items = [item for item in quarantine if item.reason == reason]
        first = items[:_NAMES]
        named = "; ".join(f"{item.item} ({item.detail})" if item.detail else item.item for item in first)
        more = f"; and {len(items) - _NAMES} more" if len(items) > _NAMES else ""
        reasons.append(f"  {count} {reason}: {named}{more}")
    raise IngestError(
        f"{lost} of {total} samples cannot be used, and ingest.max_quarantine_fraction allows {max_fraction:g}. The reasons:\n"
        + "\n".join(reasons)
        + "".join(f"\nFor {reason}: {_REMEDIES[reason]}." for reason in counts if reason in _REMEDIES)
        + "\nMend the data, or raise ingest.max_quarantine_fraction to go on without these samples."
    )


def check_to_train_on(splits: Sequence[str], annotations: str) -> None:
    """Raise IngestError unless the train split is among those that are left."""
    if TRAIN_SPLIT not in splits:
        raise IngestError(
            f"{annotations}: nothing is left to train on, no sample has the split {TRAIN_SPLIT!r} (there are {splits}); "
            "set `split` in its rows, or lower ingest.held_out_fraction and ingest.promotion_fraction"
        )


def check_to_evaluate_on(splits: Sequence[str], annotations: str) -> None:
    """Raise IngestError unless a split that is evaluated is among those that are left."""
    if not set(splits) - {TRAIN_SPLIT, TUNING_SPLIT}:
        raise IngestError(
            f"{annotations}: nothing is left to evaluate on, there are only the splits {splits}; set `split` to "
            f"{HELD_OUT!r} in some rows, or raise ingest.held_out_fraction"
        )
