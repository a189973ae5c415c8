"""Prompts in other projects' words are theirs to the letter, and what they ask for is what the rewards read."""

from __future__ import annotations

import hashlib

import pytest
from pydantic import ValidationError

from components.shared.prompt_templates import TEMPLATES, template_of
from components.shared.prompts import messages, question_text
from components.shared.rewards import score
from components.shared.schemas import PromptTemplate, Sample, Task

QUESTION = "What now?"
OPTIONS = ("open box", "fill {kettle}")
MOMENTS = ((1.0, 2.0), (3.0, 4.5))


def ask(template: PromptTemplate, task: Task, answer: str, options: tuple[str, ...] = ()) -> Sample:
    spans = MOMENTS if task == "grounded_qa" else MOMENTS[:1] if task == "temporal_grounding" else ()
    return Sample(
        id="q", video="v", question=QUESTION, options=options, answer=answer, task=task, spans=spans,
        prompt_template=template,
    )  # fmt: skip


# The digests are of what the originals' own templates give (QUESTION_TEMPLATE and TYPE_TEMPLATE of the files in `source`,
# filled in as their code does it), run outside this repository. The responses are in the form that the prompts ask for.
CASES = [
    (
        ask("seed_bench_r1", "multiple_choice", "B", OPTIONS),
        "bad6bf17fb53d9f4",
        "<think> it is empty </think><answer> B. fill {kettle} </answer>",
    ),
    (ask("video_r1", "multiple_choice", "B", OPTIONS), "dfcbe7490b6fc207", "<think>Hmm</think>\n<answer>B</answer>"),
    (ask("video_r1", "numerical", "3.14"), "a8885388fb021a46", "<think>Hmm</think><answer>3.14</answer>"),
    (ask("video_r1", "regression", "42"), "a8885388fb021a46", "<think>Hmm</think><answer>42</answer>"),
    (ask("video_r1", "ocr", "No exit"), "135a7c87fa7a8eb5", "<think>Hmm</think><answer>No exit</answer>"),
    (ask("video_r1", "free_form", "a red ball"), "48406221c4c4cdf0", "<think>Hmm</think><answer>a red ball</answer>"),
    (
        ask("videochat_r1", "grounded_qa", "A", ("the dog's", "fun")),
        "28cc2ebdae21fb0d",
        "<think>at <timestep>1.00 to 2.00</timestep></think><answer>A</answer><glue>[(1.0, 2.0), (3.0, 4.5)]</glue>",
    ),
    (
        ask("videochat_r1", "temporal_grounding", "1 to 2"),
        "2f0c7ba021c510c7",
        "<think>at <timestep>1.00 to 2.00</timestep></think><answer>1.00 to 2.00</answer>",
    ),
]


@pytest.mark.parametrize(("sample", "digest", "response"), CASES)
def test_a_template_is_the_originals_and_its_answer_earns_all(sample: Sample, digest: str, response: str) -> None:
    assert hashlib.sha256(question_text(sample).encode()).hexdigest()[:16] == digest
    rewards, _ = score(sample, response, ("format", "accuracy", "iou"))
    assert rewards == dict.fromkeys(rewards, 1.0) and len(rewards) == (3 if sample.spans else 2)


def test_every_template_has_words_for_every_task_that_it_names_and_for_no_other() -> None:
    tried = {(sample.prompt_template, sample.task) for sample, _, _ in CASES}
    others = {name: template for name, template in TEMPLATES.items() if name != "deepvideo"}
    assert tried == {(name, task) for name, template in others.items() for task in template.tasks}
    with pytest.raises(
        ValueError, match="prompt_template: videochat_r1 has no words for ocr, only for grounded_qa, temp"
    ):
        question_text(ask("videochat_r1", "ocr", "exit"))


def test_hint_and_answer_stand_below_and_the_text_where_the_original_has_it() -> None:
    image = ask("seed_bench_r1", "multiple_choice", "B", OPTIONS).model_copy(update={"image": "i"})
    assert [part["type"] for part in messages(image)[0]["content"]] == ["video", "image", "text"]
    grounded = ask("videochat_r1", "grounded_qa", "A", OPTIONS)
    assert [part["type"] for part in messages(grounded)[0]["content"]] == ["text", "video"]
    text = template_of(image).text(image)
    assert (
        question_text(image, hint="the tap", given_answer="B") == f"{text}\nHint: the tap\nThe answer is B. Explain it."
    )


def test_the_default_is_not_written_and_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    plain = ask("deepvideo", "ocr", "exit")
    assert "prompt_template" not in plain.model_dump_json()
    for sample in (plain, ask("video_r1", "ocr", "exit")):
        assert Sample.model_validate_json(sample.model_dump_json()) == sample
    with pytest.raises(ValidationError, match="'deepvideo', 'seed_bench_r1', 'video_r1' or 'videochat_r1'"):
        Sample.model_validate(plain.model_dump() | {"prompt_template": "video-r1"})
