"""What a benchmark is made of: samples from the user's own copy, and named protocols that ask and score them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast
from typing import Protocol as Interface

from components.shared.rewards.answers import Fallback
from components.shared.schemas import Record, Sample

Row = Mapping[str, Any]  # one row of a benchmark's own annotation files
Messages = list[dict[str, str]]  # of a chat with a judge
Alternatives = tuple[str, ...]  # glob patterns of one file below the copy's folder: the first that matches counts


MAIN_FIGURE = "accuracy"  # what `Scored.score` is called in results
JUDGE_REQUESTS = 8  # that a judge gets at once, unless told otherwise
PAPER = "paper"  # stands for the protocol that the paper's figures come from


class BenchmarkError(ValueError):
    """A benchmark's data, a response file or a choice cannot be used. The message names file, field and remedy."""


class Scored(Record):
    """What a protocol makes of one response.

    `score` is the protocol's main figure in [0, 1] (a benchmark's own judge rule may give -1), None where the
    protocol leaves the response out of its denominator. `figures` are further figures of the same response, such as
    IoU; one that is absent is outside its own denominator. `failure` says why no answer could be read, empty if one was.
    """

    score: float | None
    parsed: str = ""
    failure: str = ""
    figures: dict[str, float] = {}
    needs_judge: bool = False  # no figure until a judge model has spoken


class FramePolicy(Record):
    """Which frames a protocol shows. `fps` is the sampling rate before `max_frames` caps it; None: always `max_frames`.

    Where a bound of pixels is None, it is qwen-vl-utils' own. Models take frames in pairs: their number is even.
    """

    max_frames: int
    fps: float | None = None  # frames a second
    min_frames: int = 2
    min_pixels: int | None = None  # of one frame, after resizing
    max_pixels: int | None = None
    total_pixels: int | None = None  # of half of all frames together
    size: tuple[int, int] | None = None  # height and width that every frame is resized to, pixels
    indices: Literal["linspace", "stride", "segment_centres"] = "linspace"
    clip: bool = False  # only between the row's own start and end


class Decoding(Record):
    """How a protocol generates."""

    temperature: float  # 0: greedy
    max_new_tokens: int
    top_p: float = 1.0
    prefill: str = ""  # the answer's first characters, given
    returned: str = ""  # what of it the protocol puts before the answer that it scores
    first_line: bool = False  # whether the protocol scores the answer's first line alone

    def kept(self, text: str) -> str:
        """What the protocol scores of a generated text."""
        return self.returned + (text.strip().split("\n")[0] if self.first_line else text)


class StrictScorer(Interface):
    """A scorer of the strict kind: its parser takes named fall-backs."""

    def __call__(self, sample: Sample, text: str, fallbacks: Collection[Fallback] = ()) -> Scored: ...


@dataclass(frozen=True)
class JudgeRule:
    """How a judge model scores what a protocol's rules cannot. `read` gets the judge's reply, None if there was none.

    `read` returns None for a reply that is no judgement: it is asked again, and at last counted as a failure, for which
    the protocol's own code gives what `failed` says.
    """

    messages: Callable[[Sample, str], Messages]
    read: Callable[[Sample, str], float | None]
    failed: Callable[[Sample], float]
    attempts: int
    decoding: Decoding


@dataclass(frozen=True)
class Scoring:
    """A named protocol: prompt, frames, decoding and scorer. `source` is what it reproduces: repository@commit path#function."""

    name: str
    version: int
    source: str
    score: Callable[[Sample, str], Scored]
    prompt: Callable[[Sample], str]
    frames: FramePolicy
    decoding: Decoding
    judge: JudgeRule | None = None
    fallbacks: tuple[Fallback, ...] | None = None  # None: the parser takes none
    text_first: bool = False  # whether the text stands before the video


@dataclass(frozen=True)
class Benchmark:
    """A benchmark by its registry name. Paths are relative to the user's copy, laid out as its publishers do."""

    name: str
    title: str
    figures: tuple[str, ...]  # MAIN_FIGURE, then names of `Scored.figures`
    groupings: tuple[str, ...]  # keys of `Sample.metadata`
    size: int  # items of the official set
    annotations: tuple[Alternatives, ...]  # the files that its rows come from
    read: Callable[[Sequence[Path]], Iterator[Row]]  # the rows of these files, in the order of `annotations`
    sample: Callable[[Row], Sample]
    protocols: tuple[Scoring, ...]
    paper: str  # the protocol that the paper's figures come from
    headline: tuple[str, ...] = ()  # nested groupings whose unweighted mean is the headline; empty: the mean over items
    log_task: Callable[[str], dict[str, str]] = (
        lambda stem: {}
    )  # what an lmms-eval log's file name tells about its rows
    apart: bool = False  # whether each annotation file is a part that can be scored without the others

    def rows(self, root: Path) -> Iterator[Row]:
        """The rows of a copy; where its files stand apart, of those that are there.

        Raises BenchmarkError if there is no such folder, or if it lacks a file that is needed.
        """
        lacking = self.lacking(root)
        if lacking and (not self.apart or len(lacking) == len(self.annotations)):
            raise BenchmarkError(
                f"{root}: lacks {', '.join(lacking)}; `deepvideo score --benchmark {self.name} --data {root} --check` "
                "lists all that is missing of the copy"
            )
        return self.read([path for names in self.annotations if (path := _first(root, names)) is not None])

    def lacking(self, root: Path) -> list[str]:
        """The annotation files that a copy lacks, each as the names it may have. Raises BenchmarkError without a folder."""
        if not root.is_dir():
            raise BenchmarkError(f"{root}: there is no such folder; name the folder of your copy of {self.title}")
        return [" or ".join(names) for names in self.annotations if _first(root, names) is None]

    def protocol(self, name: str, fallbacks: Sequence[Fallback] = ()) -> Scoring:
        """The protocol of a name; `paper` is the one that the paper's figures come from.

        Raises BenchmarkError if there is none, or if it takes no fall-backs and some are given.
        """
        for found in self.protocols:
            if found.name == (self.paper if name == PAPER else name):
                return _loosened(found, tuple(fallbacks))
        known = ", ".join(protocol.name for protocol in self.protocols)
        raise BenchmarkError(f"--protocol {name}: {self.name} has no such protocol; it has {known}")


def _first(root: Path, names: Alternatives) -> Path | None:
    """The first file under the first of the names that matches any."""
    return next((path for name in names for path in sorted(root.glob(name)) if path.is_file()), None)


def _loosened(protocol: Scoring, fallbacks: tuple[Fallback, ...]) -> Scoring:
    if not fallbacks:
        return protocol
    if protocol.fallbacks is None:
        raise BenchmarkError(f"--fallback: fall-backs loosen the strict parser only, not protocol {protocol.name}")
    strict = cast(StrictScorer, protocol.score)
    return replace(protocol, score=partial(strict, fallbacks=fallbacks), fallbacks=fallbacks)
