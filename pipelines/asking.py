"""One question about one video, to any policy, and its answers made readable."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from components.evaluation.parsing import is_parsed
from components.ingest.decode_worker import video
from components.ingest.readers.contracts import Unusable
from components.shared.generation import Prompt, make_sampler
from components.shared.prompt_templates import template_of
from components.shared.prompts import extract_answer, extract_reasoning, option_letter
from components.shared.rewards.answers import answer_in_words
from components.shared.schemas import DEFAULT_TEMPLATE, ArtifactRef, PromptTemplate, Response, Sample, Task
from pipelines.run_folder import RunFolder
from pipelines.settings import RunSettings, SettingsError, did_you_mean

_TEMPERATURE = 1.0


@dataclass(frozen=True)
class Policy:
    """A policy's folder, and what it is in words."""

    folder: Path
    words: str


def find_policy(path: Path) -> Policy:
    """The model in a folder, or the trained policy of the run in it.

    Raises SettingsError if it is neither, and RunRefused if the run is not finished.
    """
    if (path / "config.json").is_file():
        return Policy(path, f"the model in {path}")
    run = RunFolder(path)
    if run.state() == "none":
        raise SettingsError(f"--policy {path}: is neither a model's folder, with a config.json, nor that of a run")
    run.require_finished()
    summary = run.summary_values()
    digest, promotion = summary["final_policy_digest"], summary["promotion"]
    registered = f"{promotion['registered_model']} version {promotion['version']}, " if promotion["version"] else ""
    outcome = f"promoted to {promotion['alias']!r}" if promotion["promoted"] else "not promoted"
    folder = run.open_store().get(ArtifactRef(kind="policy", uri="", digest=digest, size=0))
    return Policy(folder, f"the trained policy {digest[:12]} of {path} ({registered}{outcome})")


def make_sample(
    video_name: str,
    question: str,
    options: Sequence[str],
    task: str,
    template: PromptTemplate = DEFAULT_TEMPLATE,
) -> Sample:
    """The question as a sample. `task` empty: multiple_choice with options, else free_form.

    Raises SettingsError for an unknown task, and for one that options or the template do not suit.
    """
    task = task or ("multiple_choice" if options else "free_form")
    if task not in get_args(Task):
        known = get_args(Task)
        raise SettingsError(f"--task: there is no {task!r}{did_you_mean(task, known)}; there are {', '.join(known)}")
    # a sample must have an answer, and intervals for some tasks; the prompt shows neither
    unseen = {"answer": "A" if options else "0", "spans": ((0.0, 1.0),)}
    asked = {"id": "asked", "video": video_name, "question": question, "options": tuple(options), "task": task}
    try:
        sample = Sample.model_validate(asked | unseen | {"prompt_template": template})
        template_of(sample)
    except ValidationError as error:
        told = (item["msg"].removeprefix("Value error, ") for item in error.errors())
        raise SettingsError("; ".join(told)) from None
    except ValueError as error:
        raise SettingsError(f"--task: ingest.{error}") from None
    return sample


def ask_policy(
    path: Path, sample: Sample, policy: Path, samples: int, settings: RunSettings
) -> tuple[tuple[float, ...], tuple[Response, ...]]:
    """The times in seconds of the frames shown, and the responses: the greedy one, or `samples` sampled ones.

    Raises SettingsError if the video cannot be used.
    """
    frames, times = _frames(path, settings)
    prompt = Prompt(key=path.name, sample=sample, frames=frames, fps=(len(times) - 1) / (times[-1] - times[0]))
    sampler = make_sampler(settings.generation)
    try:
        answered = sampler.sample(
            policy,
            [prompt],
            n=samples,
            seeds=[settings.pipeline.seed],
            temperature=_TEMPERATURE if samples > 1 else 0.0,
            max_completion_length=settings.evaluation.max_completion_length,
        )
    finally:
        sampler.close()
    return times, answered[0].responses


def _frames(path: Path, settings: RunSettings) -> tuple[np.ndarray, tuple[float, ...]]:
    if not path.is_file():
        raise SettingsError(f"{path}: there is no such video")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "frames.npy"
        try:
            times = video(
                str(path),
                str(out),
                decoder=settings.ingest.decoder,
                frame_size=settings.ingest.frame_size,
                sampling=settings.ingest.sampling().model_dump(),
            )["timestamps"]
        except Unusable as problem:
            raise SettingsError(f"{path}: {problem}") from None
        return np.load(out, allow_pickle=False), tuple(times)


def print_question(sample: Sample, more: dict[str, str], console: Console) -> None:
    """The question with its options, after `more` lines by their title."""
    options = [f"{option_letter(index)}. {option}" for index, option in enumerate(sample.options)]
    _print_grid([*more.items(), ("Question", "\n".join([sample.question, *options]))], console)


def print_answers(sample: Sample, responses: Sequence[Response], console: Console) -> None:
    """Each response as its answer in words and its reasoning; one that cannot be read is marked and shown as it is."""
    for number, response in enumerate(responses, start=1):
        rows: list[tuple[str, str | Text]] = []
        title = "Answer" if len(responses) == 1 else f"Answer {number}"
        answer, reasoning = extract_answer(response.text), extract_reasoning(response.text)
        if answer and is_parsed(sample, response.text):
            rows.append((title, Text(answer_in_words(sample.model_copy(update={"answer": answer})), "bold")))
        else:
            why = "there is no <answer> in the response" if answer is None else f"<answer> holds {answer!r}"
            cut = (
                ", which was cut off at evaluation.max_completion_length" if response.finish_reason == "length" else ""
            )
            rows.append((title, Text(f"cannot be read: {why}{cut}", "yellow")))
        if answer is None or reasoning is None:
            rows.append(("Response", response.text or "(empty)"))
        else:
            rows.append(("Reasoning", reasoning or "(empty)"))
        _print_grid(rows, console)


def _print_grid(rows: Sequence[tuple[str, str | Text]], console: Console) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True, min_width=9)
    grid.add_column(overflow="fold")
    for title, text in rows:
        grid.add_row(title, text if isinstance(text, Text) else Text(text))
    console.print(grid)
    console.print()
