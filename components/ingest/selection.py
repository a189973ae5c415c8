"""Which samples stay: no leak from a held-out split into train, nothing twice, no prompt that is too long.

Rows are given and returned by their indices in the file of rows, ascending, with what is left out beside them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from components.ingest.prompt_length import PromptCounter
from components.ingest.row_file import NONE, Column, RowFile, plain
from components.shared.progress import progress
from components.shared.schemas import TRAIN_SPLIT, Frames, Quarantined, Sample

DUPLICATE = "duplicate"
Kept = tuple[np.ndarray, list[Quarantined]]
_BATCH = 1024  # prompts counted at once


def with_frames(rows: RowFile, kept: np.ndarray, frames: Mapping[str, Frames], failed: Iterable[Quarantined]) -> Kept:
    """Rows whose video and image are there; each failed file is charged with the samples that it takes along."""
    failed = list(failed)
    lost = Counter[str]()
    names = {problem.item for problem in failed}
    no_video, no_image = (column.marked(names)[kept] for column in (rows.videos, rows.images))
    for column, without in ((rows.videos, no_video), (rows.images, no_image & ~no_video)):
        lost.update(column.names[number] for number in column.numbers()[kept[without]])
    charged = [problem.model_copy(update={"samples": lost[problem.item]}) for problem in failed]
    return kept[_there(rows, kept, frames)], charged


def _there(rows: RowFile, kept: np.ndarray, frames: Mapping[str, Frames]) -> np.ndarray:
    image = rows.images.marked(frames)[kept] | (rows.images.numbers()[kept] == NONE)
    return rows.videos.marked(frames)[kept] & image


def without_spans_past_the_end(rows: RowFile, kept: np.ndarray, frames: Mapping[str, Frames]) -> Kept:
    """Rows whose spans all begin within their video."""
    durations = np.array([frames[name].duration if name in frames else 0.0 for name in rows.videos.names])
    late = rows.last_begins()[kept] >= durations[rows.videos.numbers()[kept]]
    out = []
    for row in rows.rows(kept[late]):
        duration = frames[row.sample.video].duration
        span = next(span for span in row.sample.spans if span[0] >= duration)
        detail = f"spans: {span} begins after the end of {row.sample.video} ({duration:g} s)"
        out.append(Quarantined(item=row.origin, reason="span_outside_video", detail=detail))
    return kept[~late], out


def _digest_numbers(column: Column, frames: Mapping[str, Frames]) -> np.ndarray:
    """A number for each of the column's names: the same for those whose frames are the same."""
    digests = [frames[name].digest if name in frames else "" for name in column.names]
    return np.unique(np.array(digests, dtype=str), return_inverse=True)[1].astype(np.int64)


def without_leaks(rows: RowFile, kept: np.ndarray, frames: Mapping[str, Frames]) -> Kept:
    """Rows without those of train whose video, by its frames, is also in another split: one entry a video."""
    videos, digests = rows.videos.numbers()[kept], _digest_numbers(rows.videos, frames)
    content = digests[videos]
    train = rows.splits.numbers()[kept] == rows.splits.number(TRAIN_SPLIT)
    held_out, first = np.unique(content[~train], return_index=True)
    where = dict(zip(held_out.tolist(), kept[~train][first].tolist(), strict=True))  # its first row elsewhere
    leaks = train & np.isin(content, held_out)
    out = []
    for number, count in Counter(videos[leaks].tolist()).items():
        elsewhere = rows.row(where[int(digests[number])]).sample
        detail = f"also in {elsewhere.split} ({elsewhere.video}): kept out of train"
        out.append(Quarantined(item=rows.videos.names[number], reason="leak", detail=detail, samples=count))
    return kept[~leaks], sorted(out, key=lambda item: item.item)


def without_duplicates(rows: RowFile, kept: np.ndarray, frames: Mapping[str, Frames]) -> Kept:
    """Rows without those that ask the same question with the same options about the same frames, in the same split."""
    media = []
    for column in (rows.videos, rows.images):
        numbers = np.append(_digest_numbers(column, frames), NONE)  # the last is NONE's
        media.append(numbers[column.numbers()[kept]])
    shown = np.stack(media, axis=1).astype(np.int32)
    first: dict[bytes, int] = {}
    stays = np.ones(len(kept), dtype=bool)
    out = []
    for place, index in enumerate(kept.tolist()):
        same = first.setdefault(rows.content(index) + shown[place].tobytes(), index)
        if same == index:
            continue
        stays[place] = False
        earlier, row = rows.row(same), rows.row(index)
        equal = _answer(earlier.sample) == _answer(row.sample)
        differs = "" if equal else "; its answer differs, the first one's is kept"
        out.append(Quarantined(item=row.origin, reason=DUPLICATE, detail=f"the same as {earlier.origin}{differs}"))
    return kept[stays], out


def by_id(rows: RowFile, kept: np.ndarray) -> list[int]:
    """The rows ordered by id; of the same id the earlier row first."""
    return sorted(kept.tolist(), key=rows.ids.__getitem__)


def without_repeated_ids(rows: RowFile, kept: np.ndarray) -> Kept:
    """Rows without those whose id an earlier row has."""
    repeated: dict[int, int] = {}
    first = NONE
    for index in by_id(rows, kept):
        if first != NONE and rows.ids[index] == rows.ids[first]:
            repeated[index] = first
        else:
            first = index
    out = []
    for index in sorted(repeated):
        detail = f"id: {rows.ids[index]!r} is also the id of {rows.row(repeated[index]).origin}"
        out.append(Quarantined(item=rows.row(index).origin, reason="repeated_id", detail=detail))
    return kept[~np.isin(kept, list(repeated))], out


def without_long_prompts(
    rows: RowFile,
    kept: np.ndarray,
    frames: Mapping[str, Frames],
    counter: PromptCounter,
    *,
    frame_size: int,
    max_prompt_length: int,
    max_hint_tokens: int,
) -> Kept:
    """Rows whose longest prompt has at most `max_prompt_length` tokens."""
    out: list[Quarantined] = []
    stays = np.ones(len(kept), dtype=bool)
    with progress("Counting tokens", total=len(kept), unit="rows") as advance:
        for start in range(0, len(kept), _BATCH):
            batch = list(rows.rows(kept[start : start + _BATCH].tolist()))
            samples = [row.sample for row in batch]
            lengths = [len(frames[sample.video].timestamps) for sample in samples]
            tokens = counter.longest_prompt_tokens(samples, lengths, frame_size, max_hint_tokens)
            for place, (row, count) in enumerate(zip(batch, tokens, strict=True), start=start):
                if count > max_prompt_length:
                    stays[place] = False
                    hint = ", hint included" if row.sample.split == TRAIN_SPLIT else ""
                    detail = f"{count} tokens{hint}; max_prompt_length is {max_prompt_length}"
                    out.append(Quarantined(item=row.origin, reason="prompt_too_long", detail=detail))
            advance(len(batch))
    return kept[stays], out


def select(
    rows: RowFile,
    kept: np.ndarray,
    frames: Mapping[str, Frames],
    counter: PromptCounter,
    *,
    frame_size: int,
    max_prompt_length: int,
    max_hint_tokens: int,
) -> Kept:
    """All of the above, one after the other, for rows whose frames are there."""
    kept, late = without_spans_past_the_end(rows, kept, frames)
    kept, leaks = without_leaks(rows, kept, frames)
    kept, duplicates = without_duplicates(rows, kept, frames)
    kept, repeated = without_repeated_ids(rows, kept)
    kept, long = without_long_prompts(
        rows,
        kept,
        frames,
        counter,
        frame_size=frame_size,
        max_prompt_length=max_prompt_length,
        max_hint_tokens=max_hint_tokens,
    )
    return kept, late + leaks + duplicates + repeated + long


def _answer(sample: Sample) -> str:
    """The answer in words, for the letters of shuffled options differ."""
    index = ord(sample.answer) - ord("A") if sample.options and len(sample.answer) == 1 else -1
    return plain(sample.options[index] if 0 <= index < len(sample.options) else sample.answer)
