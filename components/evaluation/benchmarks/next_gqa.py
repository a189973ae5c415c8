"""NExT-GQA: why, how and when questions with the moments that answer them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from components.evaluation.benchmarks.capitals import first_capital
from components.evaluation.benchmarks.contracts import Benchmark, Decoding, FramePolicy, Row, Scored, Scoring
from components.evaluation.benchmarks.rows import field, read_json, read_table
from components.evaluation.benchmarks.strict import strict_protocol, strict_score
from components.shared.prompt_templates import videochat_r1 as prompt
from components.shared.prompts import option_letter
from components.shared.public_rows import bare_options, next_gqa_spans
from components.shared.rewards.answers import Fallback, read_glue, read_spans
from components.shared.rewards.iou import interval_iou
from components.shared.schemas import Sample, Span

NAME = "next_gqa"
PACKED = "nextgqa_test.json"  # VideoChat-R1's form of the set, in one file
SOURCE = "doc-doc/NExT-GQA@63772e0256ad9e34b83d6a108f1ba2041b924607 code/TempGQA/eval_ground.py#eval_ground"
VIDEOCHAT_R1 = (
    "OpenGVLab/VideoChat-R1@73b2ea9ac83ad5c0bcd893bffd1cbb2e7c167068 src_eval/evaluate_gqa.py#process_work_items"
)
FRAMES = FramePolicy(fps=2, min_frames=4, max_frames=768, min_pixels=16 * 28 * 28, total_pixels=3584 * 28 * 28)
DECODING = Decoding(temperature=0.0, max_new_tokens=2048)
FIGURES = ("accuracy", "iou", "iop", "accuracy_grounded", "iou_at_0.3", "iou_at_0.5", "iop_at_0.3", "iop_at_0.5")
_GROUNDED = 0.5  # IoP from which a right answer counts as grounded

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_GLUE = re.compile(r"<glue>(.*?)</glue>", re.DOTALL)
_NUMBER = r"\d+(?:\.\d+)?"
_PAIR = rf"\({_NUMBER},\s*{_NUMBER}\)"
_LIST = re.compile(rf"\[(?:{_PAIR}(?:,\s*{_PAIR})*,?)?\]\n?")
# A comma is missing in the original: two of its lead-ins run together.
_LEAD_INS = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option is",
    "The correct option is",
    "Best answer:Best option:",
)


def rows(files: Sequence[Path]) -> Iterator[Row]:
    """The test rows: test.csv with its spans from gsub_test.json, or VideoChat-R1's one file nextgqa_test.json."""
    table, *others = files
    if table.name == PACKED:  # which stands for all three
        yield from read_table(table)
        return
    spans, names = (read_json(other, dict) for other in others)
    for row in read_table(table):
        known = spans.get(row["video_id"], {})
        if row["qid"] in known.get("location", {}):
            yield {**row, "video": f"{names[row['video_id']]}.mp4", "glue": known["location"][row["qid"]]}


def sample(row: Row) -> Sample:
    """A row of either form as a sample; the letter is that of the first option with the answer's text.

    36 of the test rows have a span that begins at -0.1 s: a sample's spans begin at 0, its metadata keep the file's.
    """
    name = row.get("id") or f"{field(row, 'video_id', NAME)}_{field(row, 'qid', NAME)}"
    options = bare_options(row["options"], "({letter}) ") if "options" in row else tuple(row[f"a{i}"] for i in range(5))
    answer: str = field(row, "answer", NAME)
    letter = answer.strip("()") if re.fullmatch(r"\([A-E]\)", answer) else option_letter(options.index(answer))
    spans = [(float(start), float(end)) for start, end in field(row, "glue", NAME)]
    kind = {"TP": "TN"}.get(row["type"], str(row["type"]))  # as the original groups them
    return Sample(
        id=name,
        video=f"videos/{field(row, 'video', NAME)}",
        question=field(row, "question", NAME),
        options=options,
        answer=letter,
        task="grounded_qa",
        spans=next_gqa_spans(spans),
        split="test",
        source=NAME,
        metadata={"spans": json.dumps(spans), "type": kind, "family": {"C": "causal", "T": "temporal"}[kind[0]]},
    )


def next_strict(sample: Sample, text: str, fallbacks: Collection[Fallback] = ()) -> Scored:
    """Strict letter; IoU and IoP over sets of intervals. Without valid intervals both are 0, and nothing is left out."""
    scored = strict_score(sample, text, fallbacks)
    spans = read_spans(read_glue(text) or "")
    valid = bool(spans) and all(start < end for start, end in spans)
    iou = interval_iou(spans, sample.spans) if valid else 0.0
    length = _length(spans) if valid else 0.0
    iop = _length_shared(spans, sample.spans) / length if length else 0.0
    failure = scored.failure or ("" if valid else "no valid interval in <glue>")
    return scored.model_copy(update={"failure": failure, "figures": _grounding(scored.score == 1, iou, iop)})


def official_score(sample: Sample, text: str) -> Scored:
    """One span, the hull of nothing more: the best over the truth's spans, for IoU and for IoP each by itself.

    The original reads no text: letter and first interval are read strictly here. Without an interval the question leaves
    the figures of grounding, as a prediction that is not in the original's file does. Options of equal text are equal.
    """
    scored = strict_score(sample, text)
    same = not scored.failure and _text(sample, scored.parsed) == _text(sample, sample.answer)
    spans = read_spans(read_glue(text) or "")
    if not spans:
        return Scored(score=float(same), parsed=scored.parsed, failure=scored.failure or "no interval in <glue>")
    pairs = [_hull_overlap(truth, spans[0]) for truth in _spans_in_the_file(sample)]
    iou, iop = max(0.0, *(iou for iou, _ in pairs)), max(0.0, *(iop for _, iop in pairs))
    figures = _grounding(same, iou, iop)
    return Scored(score=float(same), parsed=scored.parsed, failure=scored.failure, figures=figures)


def _spans_in_the_file(sample: Sample) -> list[Span]:
    return [(start, end) for start, end in json.loads(sample.metadata["spans"])]


def _text(sample: Sample, letter: str) -> str:
    return sample.options[ord(letter) - ord("A")]


def _hull_overlap(truth: Span, span: Span) -> tuple[float, float]:
    """IoU against the hull of both, and intersection over the span; apart, both are negative. A point inside has IoP 1."""
    if span[0] == span[1]:
        return 0.0, float(truth[0] <= span[0] <= truth[1])
    shared = min(truth[1], span[1]) - max(truth[0], span[0])
    hull = max(truth[1], span[1]) - min(truth[0], span[0])
    return (shared / hull if hull > 0 else 0.0, shared / (span[1] - span[0]) if span[1] > span[0] else 0.0)


def _grounding(right: bool, iou: float, iop: float) -> dict[str, float]:
    figures = {"iou": iou, "iop": iop, "accuracy_grounded": float(right and iop >= _GROUNDED)}
    for name, value in (("iou", iou), ("iop", iop)):
        figures |= {f"{name}_at_{least}": float(value >= least) for least in (0.3, 0.5)}
    return figures


def _length(spans: tuple[Span, ...]) -> float:
    """Of the union: IoU with itself is 1, so shared length and union are equal."""
    return _length_shared(spans, spans)


def _length_shared(one: tuple[Span, ...], other: tuple[Span, ...]) -> float:
    """Seconds that lie in both sets of intervals."""
    ends = sorted({end for span in (*one, *other) for end in span})
    inside = [(a, b) for a, b in zip(ends, ends[1:], strict=False) if _covers(one, a, b) and _covers(other, a, b)]
    return sum(b - a for a, b in inside)


def _covers(spans: tuple[Span, ...], start: float, end: float) -> bool:
    return any(first <= start and end <= last for first, last in spans)


def videochat_r1_score(sample: Sample, text: str) -> Scored:
    """The first capital A to G in the first <answer>; IoU over sets of intervals, 0 without <glue>.

    A <glue> that is no list of pairs raises in the original, or takes over the IoU of the response before it. A
    response by itself raises: it leaves both means.
    """
    answer, glue = _ANSWER.search(text), _GLUE.search(text)
    letter = first_capital(answer.group(1), "ABCDEFG", _LEAD_INS) if answer else ""
    right = float(letter == sample.answer)
    if not glue:
        return Scored(score=right, parsed=letter, failure="no <glue> block", figures={"iou": 0.0})
    spans = _pairs(glue.group(1))
    if spans is None:
        return Scored(score=None, parsed=letter, failure="<glue> is no list of pairs: left out of both means")
    iou = interval_iou(spans, _spans_in_the_file(sample))
    return Scored(score=right, parsed=letter, failure="" if letter else "names no option", figures={"iou": iou})


def _pairs(text: str) -> tuple[Span, ...] | None:
    """The pairs of a list such as `[(1.5, 2), (3, 4)]`; None for any other form, and for a pair that ends before it starts."""
    if not _LIST.fullmatch(text):
        return None
    try:
        pairs: list[Any] = ast.literal_eval(text)
    except (ValueError, SyntaxError):  # a number such as 01
        return None
    return tuple(pairs) if all(start <= end for start, end in pairs) else None


BENCHMARK = Benchmark(
    name=NAME,
    title="NExT-GQA (test)",
    figures=FIGURES,
    groupings=("family", "type"),
    size=5553,
    annotations=tuple(
        (f"**/{PACKED}", f"datasets/nextgqa/{name}", name)
        for name in ("test.csv", "gsub_test.json", "map_vid_vidorID.json")
    ),
    read=rows,
    sample=sample,
    protocols=(
        strict_protocol(FRAMES, next_strict),
        Scoring("official", 1, SOURCE, official_score, prompt, FRAMES, DECODING, text_first=True),
        Scoring("videochat_r1", 1, VIDEOCHAT_R1, videochat_r1_score, prompt, FRAMES, DECODING, text_first=True),
    ),
    paper="videochat_r1",
)
