"""Which samples stay: no leak from a held-out split into train, nothing twice, no prompt that is too long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from components.ingest.annotations import Row
from components.ingest.prompt_length import PromptCounter
from components.shared.schemas import TRAIN_SPLIT, Frames, Quarantined, Sample

DUPLICATE = "duplicate"
Kept = tuple[list[Row], list[Quarantined]]


def with_frames(rows: Sequence[Row], frames: Mapping[str, Frames], failed: Iterable[Quarantined]) -> Kept:
    """Rows whose video and image are there; each failed file is charged with the samples that it takes along."""
    kept = [row for row in rows if row.sample.video in frames and (not row.sample.image or row.sample.image in frames)]
    lost = {problem.item: 0 for problem in failed}
    for row in rows:
        if blamed := next((name for name in (row.sample.video, row.sample.image) if name in lost), None):
            lost[blamed] += 1
    return kept, [problem.model_copy(update={"samples": lost[problem.item]}) for problem in failed]


def without_spans_past_the_end(rows: Sequence[Row], frames: Mapping[str, Frames]) -> Kept:
    """Rows whose spans all begin within their video."""
    kept, out = [], []
    for row in rows:
        duration = frames[row.sample.video].duration
        if late := [span for span in row.sample.spans if span[0] >= duration]:
            detail = f"spans: {late[0]} begins after the end of {row.sample.video} ({duration:g} s)"
            out.append(Quarantined(item=row.origin, reason="span_outside_video", detail=detail))
        else:
            kept.append(row)
    return kept, out


def without_leaks(rows: Sequence[Row], frames: Mapping[str, Frames]) -> Kept:
    """Rows without those of train whose video, by its frames, is also in another split: one entry a video."""
    held_out: dict[str, str] = {}
    for row in rows:
        if row.sample.split != TRAIN_SPLIT:
            held_out.setdefault(frames[row.sample.video].digest, f"{row.sample.split} ({row.sample.video})")
    leaking: dict[str, list[Row]] = {}
    kept = []
    for row in rows:
        if row.sample.split == TRAIN_SPLIT and frames[row.sample.video].digest in held_out:
            leaking.setdefault(row.sample.video, []).append(row)
        else:
            kept.append(row)
    out = [
        Quarantined(
            item=video,
            reason="leak",
            detail=f"also in {held_out[frames[video].digest]}: kept out of train",
            samples=len(its),
        )
        for video, its in sorted(leaking.items())
    ]
    return kept, out


def without_duplicates(rows: Sequence[Row], frames: Mapping[str, Frames]) -> Kept:
    """Rows without those that ask the same question with the same options about the same frames, in the same split."""
    first: dict[tuple[object, ...], Row] = {}
    kept, out = [], []
    for row in rows:
        sample = row.sample
        image = frames[sample.image].digest if sample.image else ""
        options = tuple(sorted(map(_plain, sample.options)))
        key = (frames[sample.video].digest, image, _plain(sample.question), options, sample.task, sample.split)
        if (same := first.setdefault(key, row)) is row:
            kept.append(row)
        else:
            differs = "" if _answer(same.sample) == _answer(sample) else "; its answer differs, the first one's is kept"
            out.append(Quarantined(item=row.origin, reason=DUPLICATE, detail=f"the same as {same.origin}{differs}"))
    return kept, out


def without_repeated_ids(rows: Sequence[Row]) -> Kept:
    """Rows without those whose id an earlier row has."""
    first: dict[str, Row] = {}
    kept, out = [], []
    for row in rows:
        if (same := first.setdefault(row.sample.id, row)) is row:
            kept.append(row)
        else:
            detail = f"id: {row.sample.id!r} is also the id of {same.origin}"
            out.append(Quarantined(item=row.origin, reason="repeated_id", detail=detail))
    return kept, out


def without_long_prompts(
    rows: Sequence[Row],
    frames: Mapping[str, Frames],
    counter: PromptCounter,
    *,
    frame_size: int,
    max_prompt_length: int,
    max_hint_tokens: int,
) -> Kept:
    """Rows whose longest prompt has at most `max_prompt_length` tokens."""
    samples = [row.sample for row in rows]
    lengths = [len(frames[sample.video].timestamps) for sample in samples]
    tokens = counter.longest_prompt_tokens(samples, lengths, frame_size, max_hint_tokens)
    kept, out = [], []
    for row, count in zip(rows, tokens, strict=True):
        if count <= max_prompt_length:
            kept.append(row)
        else:
            hint = ", hint included" if row.sample.split == TRAIN_SPLIT else ""
            detail = f"{count} tokens{hint}; max_prompt_length is {max_prompt_length}"
            out.append(Quarantined(item=row.origin, reason="prompt_too_long", detail=detail))
    return kept, out


def select(
    rows: Sequence[Row],
    frames: Mapping[str, Frames],
    counter: PromptCounter,
    *,
    frame_size: int,
    max_prompt_length: int,
    max_hint_tokens: int,
) -> Kept:
    """All of the above, one after the other, for rows whose frames are there."""
    rows, late = without_spans_past_the_end(rows, frames)
    rows, leaks = without_leaks(rows, frames)
    rows, duplicates = without_duplicates(rows, frames)
    rows, repeated = without_repeated_ids(rows)
    rows, long = without_long_prompts(
        rows,
        frames,
        counter,
        frame_size=frame_size,
        max_prompt_length=max_prompt_length,
        max_hint_tokens=max_hint_tokens,
    )
    return rows, late + leaks + duplicates + repeated + long


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _answer(sample: Sample) -> str:
    """The answer in words, for the letters of shuffled options differ."""
    index = ord(sample.answer) - ord("A") if sample.options and len(sample.answer) == 1 else -1
    return _plain(sample.options[index] if 0 <= index < len(sample.options) else sample.answer)
