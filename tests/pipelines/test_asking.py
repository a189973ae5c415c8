"""A question to a policy: how its answers are read out, and one asked of the committed tiny model for real."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from components.ingest.base_model import TINY_WEIGHTS
from components.shared.schemas import Response, Sample
from pipelines.asking import find_policy, make_sample, print_answers
from pipelines.run_folder import RunFolder, RunRefused
from pipelines.settings import RunSettings, SettingsError
from tests.videos import write_video

CHOICE = make_sample("a.mp4", "What color is it?", ["red", "green"], "")


def printed(sample: Sample, *texts: str, finish_reason: str = "stop") -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    responses = [
        Response.model_validate(
            {"index": i, "seed": i, "token_ids": [], "logprobs": [], "text": text, "finish_reason": finish_reason}
        )
        for i, text in enumerate(texts)
    ]
    print_answers(sample, responses, console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return [line.rstrip() for line in lines if line.strip()]


def test_an_answer_is_read_out_with_its_options_text_and_apart_from_the_reasoning() -> None:
    assert printed(CHOICE, "<think>It is [green].</think><answer>B</answer>") == [
        "Answer     B. green",
        "Reasoning  It is [green].",
    ]


def test_several_answers_are_numbered() -> None:
    lines = printed(CHOICE, "<think>a</think><answer>B</answer>", "<think>b</think><answer>(A)</answer>")
    assert [line for line in lines if line.startswith("Answer")] == ["Answer 1   B. green", "Answer 2   A. red"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<think>It is green.</think>", "there is no <answer> in the response"),
        ("<think>It is green.</think><answer>green or red</answer>", "<answer> holds 'green or red'"),
    ],
)
def test_an_answer_that_cannot_be_read_is_marked(text: str, why: str) -> None:
    assert printed(CHOICE, text)[0] == f"Answer     cannot be read: {why}"


def test_a_response_without_the_form_is_shown_as_it_is_and_why_it_ended() -> None:
    lines = printed(CHOICE, "<think>It is gr", finish_reason="length")
    assert lines[-1] == "Response   <think>It is gr"
    assert "which was cut off at evaluation.max_completion_length" in " ".join(" ".join(lines).split())


def test_the_task_follows_from_the_options_unless_it_is_given() -> None:
    assert CHOICE.task == "multiple_choice"
    assert make_sample("a.mp4", "What?", [], "").task == "free_form"
    assert make_sample("a.mp4", "When?", [], "temporal_grounding").task == "temporal_grounding"


@pytest.mark.parametrize(
    ("options", "task", "words"),
    [(["red"], "", "needs 2 to 26 options, got 1"), ([], "temporal", "--task: there is no 'temporal'")],
)
def test_a_question_that_cannot_be_asked_says_why(options: list[str], task: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        make_sample("a.mp4", "What?", options, task)


def test_a_question_is_asked_in_the_words_of_the_run_if_it_has_some() -> None:
    asked = make_sample("a.mp4", "What?", ["red", "green"], "", "seed_bench_r1")
    assert asked.prompt_template == "seed_bench_r1"
    with pytest.raises(SettingsError, match="--task: ingest.prompt_template: seed_bench_r1 has no words for free_form"):
        make_sample("a.mp4", "What?", [], "", "seed_bench_r1")


def test_a_folder_that_is_no_policy_and_a_run_without_one_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is neither a model's folder"):
        find_policy(tmp_path)
    RunFolder(tmp_path).start(RunSettings())
    with pytest.raises(RunRefused, match="stopped before its end"):
        find_policy(tmp_path)


def test_the_tiny_model_answers_and_is_named(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", frames=16, fps=8)
    command = [sys.executable, "-m", "pipelines.cli", "ask", str(tmp_path / "a.mp4"), "What color is the square?"]
    command += ["--option", "red", "--option", "blue", "--policy", str(TINY_WEIGHTS)]
    command += ["--set", "generation.engine=transformers"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    assert "Policy the model in" in words and "8 frames of 56 x 56 pixels" in words
    assert "Question What color is the square? A. red B. blue Answer " in words
