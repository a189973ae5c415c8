"""Video-MMMU: learning from lectures, in three tracks of 300 questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from components.evaluation.benchmarks import video_mmmu_rules as rules
from components.evaluation.benchmarks import video_r1
from components.evaluation.benchmarks.contracts import Benchmark, BenchmarkError, Decoding, FramePolicy, Row, Scoring
from components.evaluation.benchmarks.rows import field, lettered, read_table
from components.evaluation.benchmarks.strict import strict_protocol
from components.shared.public_rows import bare_options
from components.shared.rewards.answers import read_number
from components.shared.schemas import Sample, Task

NAME = "video_mmmu"
TRACKS = ("Perception", "Comprehension", "Adaptation")
FOLDERS = {  # folder of the videos -> its subjects
    "Art": ("Art", "Art_Theory", "Design", "Music"),
    "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "Medicine": (
        "Basic_Medical_Science",
        "Clinical_Medicine",
        "Diagnostics_and_Laboratory_Medicine",
        "Pharmacy",
        "Public_Health",
    ),
    "Humanities": ("History", "Literature", "Sociology", "Psychology"),
    "Engineering": (
        "Agriculture",
        "Architecture_and_Engineering",
        "Computer_Science",
        "Electronics",
        "Energy_and_Power",
        "Materials",
        "Mechanical_Engineering",
    ),
}
_ENDS = "{question}\n{options}"
_IGNORE = "\nPlease ignore the Quiz question in last frame of the video."
_LEARN = (
    "You should watch and learn the video content. Then apply what you learned to answer the following {form} question. The "
    "image for this question is at the end of the video.\n"
)


def rows(files: Sequence[Path]) -> Iterator[Row]:
    """The rows of these tracks' files, each with its `track`."""
    for file in files:
        for row in read_table(file):
            yield {"track": file.stem if file.stem in TRACKS else file.parent.name, **row}


def sample(row: Row) -> Sample:
    """A row as a sample. `letters` in its metadata says that the file's options begin with their letters."""
    name, track = field(row, "id", NAME), row.get("track", "")
    subject = "_".join(name.split("_")[1:-1])
    folder = next((folder for folder, subjects in FOLDERS.items() if subject in subjects), None)
    if folder is None:
        raise BenchmarkError(f"{NAME}: {name}: subject {subject!r} is in none of the six disciplines")
    kind, raw, answer = (
        row.get("question_type") or "None",
        tuple(row.get("options") or ()),
        str(field(row, "answer", NAME)),
    )
    options = bare_options(raw) if kind in ("multiple-choice", "perception") else ()
    open_task: Task = "free_form" if read_number(answer) is None else "numerical"
    return Sample(
        id=f"{track}/{name}" if track else name,
        video=f"{folder}/{name}.mp4",
        question=field(row, "question", NAME),
        options=options,
        answer=answer,
        task="multiple_choice" if options else open_task,
        split="test",
        source=NAME,
        metadata={
            "track": track or "unknown",
            "discipline": folder,
            "subject": subject,
            "question_type": kind,
            "letters": "" if options == raw else "A. ",
        },
    )


def prompt(sample: Sample) -> str:
    """The official prompt of the sample's track."""
    options = "\n".join(lettered(sample.options))
    asked = _ENDS.format(question=sample.question, options=options) if options else sample.question
    if sample.metadata["track"] != "Adaptation":
        return asked + _IGNORE
    return _LEARN.format(form="multi-choice" if sample.options else "open-ended") + asked


def log_task(stem: str) -> dict[str, str]:
    """lmms-eval writes one log a track."""
    return {"track": stem.partition("video_mmmu_")[2].partition("_")[0].capitalize()}


BENCHMARK = Benchmark(
    name=NAME,
    title="Video-MMMU",
    figures=("accuracy",),
    groupings=("track", "discipline", "subject"),
    size=900,
    annotations=tuple((f"{track}/*.parquet", f"{track}.jsonl") for track in TRACKS),
    apart=True,
    read=rows,
    sample=sample,
    log_task=log_task,
    protocols=(
        strict_protocol(video_r1.FRAMES),
        Scoring(
            "official",
            1,
            rules.SOURCE,
            rules.official_score,
            prompt,
            FramePolicy(max_frames=32),
            Decoding(temperature=0.0, max_new_tokens=1024),
        ),
        video_r1.PROTOCOL,
    ),
    paper="video_r1",
)
