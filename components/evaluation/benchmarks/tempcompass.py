"""TempCompass: five temporal aspects, asked as multiple choice, yes or no, caption matching and captioning."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from components.evaluation.benchmarks import tempcompass_rules as rules
from components.evaluation.benchmarks import video_r1
from components.evaluation.benchmarks.contracts import (
    Benchmark,
    BenchmarkError,
    Decoding,
    FramePolicy,
    Row,
    Scored,
    Scoring,
)
from components.evaluation.benchmarks.rows import field, read_json
from components.evaluation.benchmarks.strict import strict_protocol, strict_score
from components.shared.prompts import option_letter
from components.shared.public_rows import bare_options
from components.shared.rewards.answers import Fallback
from components.shared.schemas import Sample

NAME = "tempcompass"
FORMS = {
    "multi-choice": "multi_choice",
    "yes_no": "yes_no",
    "caption_matching": "caption_matching",
    "captioning": "captioning",
}
_SUFFIX = {
    "multi_choice": "\nPlease directly give the best option:",
    "yes_no": "\nPlease answer yes or no:",
    "caption_matching": "\nPlease directly give the best option:",
    "captioning": "",
}


def rows(files: Sequence[Path]) -> Iterator[Row]:
    """The rows of all four forms, one a question; captioning with the multiple-choice question its judge is asked."""
    contents = {FORMS[file.stem]: read_json(file, dict) for file in files}
    choices = contents["multi_choice"]
    for form, content in contents.items():
        for video, aspects in content.items():
            for aspect, questions in aspects.items():
                for index, question in enumerate(questions):
                    row = {"form": form, "video_id": video, "dim": aspect, "index": index, **question}
                    if form == "captioning":
                        first = choices[video][aspect][0]
                        row |= {"mc_question": first["question"], "mc_answer": first["answer"]}
                    yield row


def sample(row: Row) -> Sample:
    """A row as a sample. Its metadata keep question and answer as the files have them, which the official rules read."""
    if not row.get("form"):
        raise BenchmarkError(
            f"{NAME}: a row without its form; a log's rows have it from the file's name, as lmms-eval writes it "
            "(<date>_samples_tempcompass_<form>.jsonl): give the file that name, or each row a `form`"
        )
    form, video, aspect = row["form"], field(row, "video_id", NAME), field(row, "dim", NAME)
    question, answer = field(row, "question", NAME), field(row, "answer", NAME)
    if form not in _SUFFIX:
        raise BenchmarkError(f"{NAME}: form {form!r} is none of {', '.join(_SUFFIX)}")
    raw = {"form": form, "aspect": aspect, "raw_question": question, "raw_answer": answer}
    options: tuple[str, ...] = ()
    if form in ("multi_choice", "caption_matching"):
        question, options, answer = _choices(form, question, answer)
    if form == "captioning":
        raw |= {"mc_question": field(row, "mc_question", NAME), "mc_answer": field(row, "mc_answer", NAME)}
    return Sample(
        id=f"{form}/{video}/{aspect}/{field(row, 'index', NAME)}",
        video=f"videos/{video}.mp4",
        question=question,
        options=options,
        answer=answer,
        task="multiple_choice" if options else "free_form",
        split="test",
        source=NAME,
        metadata=raw,
    )


def _choices(form: str, question: str, answer: str) -> tuple[str, tuple[str, ...], str]:
    """Question, options and letter: `A. text` lines, or the `Option 1: text` lines of caption matching."""
    head, *lines = question.split("\n")
    if answer not in lines:
        raise BenchmarkError(f"{NAME}: the answer {answer!r} is not among the options of {question!r}")
    letter = option_letter(lines.index(answer))
    if form == "multi_choice":
        return head, bare_options(lines), letter
    return head, tuple(line.partition(": ")[2] for line in lines), letter


def prompt(sample: Sample) -> str:
    """The question as the files have it, and its form's last line."""
    return sample.metadata["raw_question"] + _SUFFIX[sample.metadata["form"]]


def tempcompass_strict(sample: Sample, text: str, fallbacks: Collection[Fallback] = ()) -> Scored:
    """Strict; a caption cannot be scored without a judge, and yes or no is the whole answer."""
    if sample.metadata["form"] == "captioning":
        return Scored(score=None, parsed=text, needs_judge=True, failure="captions need a judge")
    scored = strict_score(sample, text, fallbacks)
    if (
        sample.metadata["form"] == "yes_no"
        and not scored.failure
        and scored.parsed.casefold().strip(" .") not in ("yes", "no")
    ):
        return scored.model_copy(update={"score": 0.0, "failure": "neither yes nor no"})
    return scored


def tempcompass_video_r1(sample: Sample, text: str) -> Scored:
    """Video-R1's rule. How its own file words captions is not known here: they are left out.

    For yes or no, its file is taken to state the answer as TempCompass does; that could not be checked either.
    """
    if sample.metadata["form"] == "captioning":
        return Scored(score=None, parsed=text, failure="how Video-R1 asks for captions is not known")
    if sample.metadata["form"] == "yes_no":
        scored = video_r1.score(sample.model_copy(update={"options": ("yes", "no")}), text)
        return scored.model_copy(update={"failure": "" if scored.parsed in ("yes", "no") else "not a bare yes or no"})
    return video_r1.score(sample, text)


def log_task(stem: str) -> dict[str, str]:
    """lmms-eval writes one log a form."""
    return {"form": stem.partition("tempcompass_")[2]}


BENCHMARK = Benchmark(
    name=NAME,
    title="TempCompass",
    figures=("accuracy",),
    groupings=("form", "aspect"),
    size=1580 + 2453 + 1503 + 2004,
    annotations=tuple((f"questions/{file}.json",) for file in FORMS),
    read=rows,
    sample=sample,
    log_task=log_task,
    protocols=(
        replace(strict_protocol(video_r1.FRAMES, tempcompass_strict), judge=rules.CAPTION_JUDGE),
        Scoring(
            "official",
            1,
            rules.SOURCE,
            rules.official_score,
            prompt,
            FramePolicy(fps=1, max_frames=768, max_pixels=720 * 720),
            Decoding(temperature=0.0, max_new_tokens=128),
            judge=rules.JUDGE,
        ),
        replace(video_r1.PROTOCOL, score=tempcompass_video_r1),
    ),
    paper="video_r1",
)
