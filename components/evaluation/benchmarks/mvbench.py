"""MVBench: twenty tasks of 200 questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

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
from components.evaluation.benchmarks.rows import field, lettered, read_table
from components.evaluation.benchmarks.strict import strict_protocol
from components.shared.prompts import option_letter
from components.shared.schemas import Sample

NAME = "mvbench"
SOURCE = "OpenGVLab/Ask-Anything@4dd8210b030374bb0c510a57dfbe916f70d3ef71 video_chat2/mvbench.ipynb#check_ans"
FOLDERS = {  # task, as its file is named -> folder of its videos below video/
    "action_sequence": "star/Charades_v1_480",
    "action_prediction": "star/Charades_v1_480",
    "action_antonym": "ssv2_video",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "unexpected_action": "FunQA_test/test",
    "object_existence": "clevrer/video_validation",
    "object_interaction": "star/Charades_v1_480",
    "object_shuffle": "perception/videos",
    "moving_direction": "clevrer/video_validation",
    "action_localization": "sta/sta_video",
    "scene_transition": "scene_qa/video",
    "action_count": "perception/videos",
    "moving_count": "clevrer/video_validation",
    "moving_attribute": "clevrer/video_validation",
    "state_change": "perception/videos",
    "fine_grained_pose": "nturgbd",
    "character_order": "perception/videos",
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/frames_fps3_hq",
    "counterfactual_inference": "clevrer/video_validation",
}
_PIXELS = video_r1.FRAMES.model_dump(include={"min_pixels", "max_pixels"})
FRAMES = FramePolicy(max_frames=16, size=(224, 224), indices="segment_centres", clip=True)


def rows(files: Sequence[Path]) -> Iterator[Row]:
    """The rows of these tasks' files, each with its `task` and its `index` in the file."""
    for file in files:
        for index, row in enumerate(read_table(file)):
            yield {"task": file.stem, "index": index, **row}


def sample(row: Row) -> Sample:
    """A row as a sample; `start` and `end` in its metadata bound the clip in seconds, where the row has them."""
    if not row.get("task"):
        raise BenchmarkError(
            f"{NAME}: a row without its task; a log's rows have it from the file's name, as lmms-eval writes it "
            "(<date>_samples_mvbench_<task>.jsonl): give the file that name, or each row a `task`"
        )
    task, candidates = row["task"], list(field(row, "candidates", NAME))
    if task not in FOLDERS:
        raise BenchmarkError(f"{NAME}: task {task!r} is none of {', '.join(FOLDERS)}")
    if field(row, "answer", NAME) not in candidates:
        raise BenchmarkError(f"{NAME}: {task}/{row.get('index')}: answer {row['answer']!r} is no candidate")
    last = (
        len(candidates) - 1 - candidates[::-1].index(row["answer"])
    )  # of equal candidates the original takes the last
    bounds = {name: str(row[name]) for name in ("start", "end") if row.get(name) is not None}
    return Sample(
        id=f"{task}/{field(row, 'index', NAME)}",
        video=f"video/{FOLDERS[task]}/{field(row, 'video', NAME)}",
        question=field(row, "question", NAME),
        options=tuple(candidates),
        answer=option_letter(last),
        task="multiple_choice",
        split="test",
        source=NAME,
        metadata={"task": task} | bounds,
    )


def prompt(sample: Sample) -> str:
    """System text, question, options and instruction; the answer's first characters are given (`Decoding.prefill`)."""
    return (
        "Carefully watch the video and pay attention to the cause and sequence of events, the detail and movement of "
        "objects, and the action and pose of persons. Based on your observations, select the best option that accurately "
        "addresses the question.\n"
        + "\n".join([f"Question: {sample.question}", "Options:", *lettered(sample.options, "({letter}) {option}")])
        + "\nOnly give the best option."
    )


def official_score(sample: Sample, text: str) -> Scored:
    """Whether the response's first token is part of "(b)" or holds it, without case and points: "" and "(" always are.

    The generation loop of the original keeps only the first line and puts "(" before it (`Decoding.kept`); a file of
    responses has that done.
    """
    truth = f"({sample.answer.lower()})"
    given = text.lower().split(" ")[0]
    right = given.replace(".", "") in truth or truth in given
    readable = given.strip("().:") in [option_letter(index).lower() for index in range(len(sample.options))]
    return Scored(score=float(right), parsed=given, failure="" if readable else "begins with no option letter")


def log_task(stem: str) -> dict[str, str]:
    """lmms-eval writes one log a task."""
    return {"task": stem.partition("mvbench_")[2]}


BENCHMARK = Benchmark(
    name=NAME,
    title="MVBench",
    figures=("accuracy",),
    groupings=("task",),
    size=4000,
    annotations=tuple((f"json/{task}.json",) for task in FOLDERS),
    apart=True,
    read=rows,
    sample=sample,
    log_task=log_task,
    protocols=(
        strict_protocol(FRAMES.model_copy(update={"size": None} | _PIXELS)),
        Scoring(
            "official",
            1,
            SOURCE,
            official_score,
            prompt,
            FRAMES,
            Decoding(temperature=0.0, max_new_tokens=100, prefill="Best option:(", returned="(", first_line=True),
        ),
        video_r1.PROTOCOL,  # whose videos are not cut to start and end
    ),
    paper="video_r1",
)
