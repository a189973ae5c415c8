"""What counts as an answer that could be read: judged by hand for every task."""

from __future__ import annotations

import pytest

from components.evaluation.answering import scored
from components.evaluation.parsing import is_parsed
from components.shared.schemas import Sample
from components.shared.scores import Answered, metric_name

SAMPLES = {
    "multiple_choice": {"options": ("red", "blue"), "answer": "B"},
    "numerical": {"answer": "12"},
    "regression": {"answer": "2.5"},
    "ocr": {"answer": "EXIT"},
    "free_form": {"answer": "a dog"},
    "temporal_grounding": {"answer": "2 to 4", "spans": ((2.0, 4.0),)},
    "grounded_qa": {"options": ("red", "blue"), "answer": "B", "spans": ((2.0, 4.0),)},
}


def question(task: str) -> Sample:
    return Sample(id="q", video="v", question="?", task=task, **SAMPLES[task])


@pytest.mark.parametrize(
    ("task", "answer", "parsed"),
    [
        ("multiple_choice", "A", True),
        ("multiple_choice", "(b)", True),
        ("multiple_choice", "C", False),
        ("multiple_choice", "the red one", False),
        ("numerical", "1,200", True),
        ("numerical", "a dozen", False),
        ("regression", "-3.5", True),
        ("regression", "3 kg", False),
        ("ocr", "anything", True),
        ("free_form", "a cat", True),
        ("free_form", "...", False),
        ("temporal_grounding", "7 to 9", True),
        ("temporal_grounding", "9 to 7", False),
        ("temporal_grounding", "at the end", False),
        ("grounded_qa", "A", True),
        ("grounded_qa", "maybe", False),
    ],
)
def test_an_answer_of_the_tasks_form_is_read_right_or_wrong(task: str, answer: str, parsed: bool) -> None:
    assert is_parsed(question(task), f"<think>x</think><answer>{answer}</answer>") is parsed


@pytest.mark.parametrize("task", list(SAMPLES))
def test_without_an_answer_block_nothing_is_read(task: str) -> None:
    assert not is_parsed(question(task), SAMPLES[task]["answer"])
    assert not is_parsed(question(task), "<answer></answer>")


@pytest.mark.parametrize("task", list(SAMPLES))
def test_what_earns_accuracy_was_read(task: str) -> None:
    answer = scored(question(task), f"<answer>{SAMPLES[task]['answer']}</answer>")
    assert (answer.reward, answer.parsed) == (1.0, True)


def test_the_mean_of_ious_is_called_so() -> None:
    def answered(task: str) -> Answered:
        return Answered(sample_id="q", video="v", level="L1", kind="k", task=task, question="?", answer="A", sampled=())

    assert metric_name([answered("temporal_grounding")]) == "mIoU"
    assert metric_name([answered("multiple_choice"), answered("ocr")]) == "accuracy"
    assert metric_name([answered("multiple_choice"), answered("temporal_grounding")]) == "accuracy_or_IoU"
