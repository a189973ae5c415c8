"""How a question is asked: this project's own words, and those in which the published training sets were trained on.

The other projects' words are theirs to the letter, for a policy answers another prompt differently. All are from code
under Apache-2.0, read at the commits named beside them. What every template asks for is what the rewards read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from string import ascii_uppercase
from typing import get_args

from components.shared.schemas import PromptTemplate, Sample, Task

_INSTRUCTION = "Think inside <think> </think>, then answer inside <answer> </answer>."
_TASK_INSTRUCTION: dict[Task, str] = {
    "multiple_choice": "Answer with the letter of one option.",
    "numerical": "Answer with a number.",
    "regression": "Answer with a number.",
    "ocr": "Answer with the text.",
    "free_form": "Answer in a few words.",
    "temporal_grounding": "Answer with the start and the end in seconds, as START to END.",
    "grounded_qa": "Answer with the letter of one option, then give the interval in seconds inside <glue> </glue>.",
}

_VIDEO_R1 = (
    "\nPlease think about this question as if you were a human pondering deeply. Engage in an internal dialogue using "
    "expressions such as 'let me think', 'wait', 'Hmm', 'oh, I see', 'let's break it down', etc, or other natural "
    "language thought expressions It's encouraged to include self-reflection or verification in the reasoning process. "
    "Provide your detailed reasoning between the <think> </think> tags, and then give your final answer between the "
    "<answer> </answer> tags."
)
_VIDEO_R1_NUMBER = " Please provide the numerical value (e.g., 42 or 3.14) within the <answer> </answer> tags."
_VIDEO_R1_ANSWER: dict[Task, str] = {
    "multiple_choice": " Please provide only the single option letter (e.g., A, B, C, D, etc.) within the <answer> "
    "</answer> tags.",
    "numerical": _VIDEO_R1_NUMBER,
    "regression": _VIDEO_R1_NUMBER,
    "ocr": " Please transcribe text from the image/video clearly and provide your text answer within the <answer> "
    "</answer> tags.",
    "free_form": " Please provide your text answer within the <answer> </answer> tags.",
}

_VIDEOCHAT_R1_THINK = (
    "\n\nOutput your thought process within the <think> </think> tags, including analysis with either specific "
    "timestamps (xx.xx) or time ranges (xx.xx to xx.xx) in <timestep> </timestep> tags.\n\n"
)
_VIDEOCHAT_R1_GLUE = (
    "Then, provide your answer within the <answer> </answer> tags, output the corresponding letter of the option. At the "
    "same time, in the <glue> </glue> tags, present the precise time period in seconds of the video clips on which you "
    "base your answer to this question in the format of [(s1, e1), (s2, e2), ...]. For example: "
    "<answer>A</answer><glue>[(5.2, 10.4)]</glue>.\n"
)
_VIDEOCHAT_R1_SPAN = (
    "Then, provide the start and end times (in seconds, precise to two decimal places) in the format "
    '"start time to end time" within the <answer> </answer> tags. For example: "12.54 to 17.83".'
)


@dataclass(frozen=True)
class Template:
    """One way to ask. `text` is the whole text of the user's turn for a sample of one of `tasks`."""

    text: Callable[[Sample], str]
    tasks: tuple[Task, ...]
    text_first: bool = False  # whether the text stands before the video
    source: str = "this project"  # repository@commit path


def deepvideo(sample: Sample) -> str:
    """The project's own: question, options, instruction, each on a line."""
    return "\n".join([sample.question, *_lettered(sample), f"{_INSTRUCTION} {_TASK_INSTRUCTION[sample.task]}"])


def seed_bench_r1(sample: Sample) -> str:
    """SEED-Bench-R1's, and the paper's on that set."""
    return (
        "\n".join([sample.question, *_lettered(sample)])
        + "\n Output the thinking process in <think> </think> and final answer in <answer> </answer> tags, i.e., "
        "<think> reasoning process here </think><answer> answer here </answer>. "
    )


def video_r1(sample: Sample) -> str:
    """Video-R1's of training: options right behind the question, then what to think and the form of the answer."""
    options = "".join(["Options:\n", *(f"{line}\n" for line in _lettered(sample))]) if sample.options else ""
    return sample.question + options + _VIDEO_R1 + _VIDEO_R1_ANSWER[sample.task]


def videochat_r1(sample: Sample) -> str:
    """VideoChat-R1's: an answer with its moments (the options as a list in Python's spelling), or the moment of an event."""
    if sample.task == "temporal_grounding":
        event = (
            f'To accurately pinpoint the event "{sample.question}" in the video, determine the precise time period of'
        )
        return f"{event} the event.{_VIDEOCHAT_R1_THINK}{_VIDEOCHAT_R1_SPAN}"
    options = [f"({letter}) {option}" for letter, option in zip(ascii_uppercase, sample.options, strict=False)]
    asked = f'Answer the question: "{sample.question}" according to the content of the video. Select the answer from'
    return f"{asked} :{options}.{_VIDEOCHAT_R1_THINK}{_VIDEOCHAT_R1_GLUE}"


def _lettered(sample: Sample) -> list[str]:
    """The options with their letters: "A. red"."""
    return [f"{letter}. {option}" for letter, option in zip(ascii_uppercase, sample.options, strict=False)]


TEMPLATES: dict[PromptTemplate, Template] = {
    "deepvideo": Template(deepvideo, get_args(Task)),
    "seed_bench_r1": Template(
        seed_bench_r1,
        ("multiple_choice",),
        source="TencentARC/SEED-Bench-R1@12e8fccbd9de626a4c1c617c4a48cf2927b77c6e src/open_r1_egoplan/grpo.py",
    ),
    "video_r1": Template(
        video_r1,
        tuple(_VIDEO_R1_ANSWER),
        source="tulerfeng/Video-R1@59d65c347e44efa71be27abf9d89b4a2bb7d1c05 src/r1-v/src/open_r1/grpo.py",
    ),
    "videochat_r1": Template(
        videochat_r1,
        ("grounded_qa", "temporal_grounding"),
        text_first=True,
        source="OpenGVLab/VideoChat-R1@73b2ea9ac83ad5c0bcd893bffd1cbb2e7c167068 src/open_r1/trainer/"
        "grpo_trainer_video_gqa.py, grpo_trainer_video_tg.py",
    ),
}


def template_of(sample: Sample) -> Template:
    """The template that a sample names. Raises ValueError, naming the tasks that it has words for, if it has none here."""
    found = TEMPLATES[sample.prompt_template]
    if sample.task not in found.tasks:
        raise ValueError(
            f"prompt_template: {sample.prompt_template} has no words for {sample.task}, only for {', '.join(found.tasks)}"
        )
    return found
