"""Samples in the form in which lmms-eval's task code takes them: only the fields that its scorers read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from components.evaluation.benchmarks.contracts import BenchmarkError
from components.shared.schemas import Sample

Task = tuple[str, dict[str, Any]]  # name of the task in lmms_eval_scores.py, and the document


def _longvideobench(sample: Sample) -> Task:
    options = {f"option{i}": sample.options[i] if i < len(sample.options) else "N/A" for i in range(5)}
    groups = {"duration_group": sample.metadata["duration"], "question_category": sample.metadata["category"]}
    return "longvideobench", {"id": sample.id, "correct_choice": ord(sample.answer) - ord("A")} | options | groups


def _vsi_bench(sample: Sample) -> Task:
    return "vsibench", {"question_type": sample.metadata["question_type"], "ground_truth": sample.answer}


def _video_mmmu(sample: Sample) -> Task:
    name = sample.id.rpartition("/")[2]
    kind = sample.metadata["question_type"]
    return "videommmu", {"id": name, "question_type": kind, "options": sample.options, "answer": sample.answer}


def _mmvu(sample: Sample) -> Task:
    choices = {chr(ord("A") + i): option for i, option in enumerate(sample.options)}
    asked = {"question": sample.question, "question_type": "multiple-choice", "choices": choices}
    return "mmvu", {"id": sample.id, "video_path": sample.video, "answer": sample.answer} | asked


def _mvbench(sample: Sample) -> Task:
    answer = sample.options[ord(sample.answer) - ord("A")]
    return "mvbench", {"candidates": sample.options, "answer": answer}


def _tempcompass(sample: Sample) -> Task:
    names = {"dim": "aspect", "question": "raw_question", "answer": "raw_answer"}
    names |= {name: name for name in ("mc_question", "mc_answer") if name in sample.metadata}
    doc = {"video_id": sample.id.split("/")[1]} | {name: sample.metadata[ours] for name, ours in names.items()}
    return f"tempcompass_{sample.metadata['form']}", doc


def _video_mme(sample: Sample) -> Task:
    groups = {name: sample.metadata.get(name, "") for name in ("duration", "domain", "sub_category", "task_type")}
    return "videomme", {"question_id": sample.id, "videoID": sample.video, "answer": sample.answer} | groups


_TASKS: dict[str, Callable[[Sample], Task]] = {
    "longvideobench": _longvideobench,
    "vsi_bench": _vsi_bench,
    "video_mmmu": _video_mmmu,
    "mmvu": _mmvu,
    "mvbench": _mvbench,
    "tempcompass": _tempcompass,
    "video_mme": _video_mme,
}


def lmms_eval_task(benchmark: str, sample: Sample) -> Task:
    """The task and its document. Raises BenchmarkError if lmms-eval has no such benchmark."""
    if benchmark not in _TASKS:
        raise BenchmarkError(f"--benchmark {benchmark}: lmms-eval has none of it; it has {', '.join(_TASKS)}")
    return _TASKS[benchmark](sample)
