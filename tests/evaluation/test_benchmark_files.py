"""Copies in each form that their publishers have, in parts, and damaged; response files and results that are none."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from components.evaluation.benchmarks import BENCHMARKS, BenchmarkError, find_benchmark
from components.evaluation.benchmarks.responses import missing_media, read_answers, read_copy
from components.evaluation.benchmarks.rows import read_json
from pipelines.benchmarking.evaluate import Changes, prepare
from pipelines.cli import app
from pipelines.run_folder import RunRefused
from pipelines.score_cli import score_file
from tests.benchmark_copies import COPIES, docs, put
from tests.evaluation.readme_tables import README

_TRACKS = ("Perception", "Comprehension", "Adaptation")


def _vsi(root: Path) -> int:
    put(root / "test.parquet", docs("vsi_bench")[:6])
    return 6


def _longvideobench(root: Path) -> int:
    rows = [
        {k: v for k, v in row.items() if k != "candidates"}
        | {f"option{i}": [*row["candidates"], *["N/A"] * 5][i] for i in range(5)}
        for row in docs("longvideobench")[:4]
    ]
    put(root / "validation-00000-of-00001.parquet", rows)
    return 4


def _video_mme(root: Path) -> int:
    put(root / "videomme.jsonl", docs("video_mme"))
    return len(docs("video_mme"))


def _video_mmmu(root: Path) -> int:
    for track in _TRACKS:
        put(root / f"{track}.jsonl", [{k: v for k, v in row.items() if k != "track"} for row in docs("video_mmmu")[:2]])
    return 6


def _mmvu(root: Path) -> int:
    put(root / "validation.json", docs("mmvu"))
    return len(docs("mmvu"))


def _next_gqa(root: Path) -> int:
    put(root / "Annotations/NextGQA/nextgqa_test.json", docs("next_gqa")[:1])
    return 1


FORMS = {
    "vsi_bench": _vsi, "longvideobench": _longvideobench, "video_mme": _video_mme, "video_mmmu": _video_mmmu,
    "mmvu": _mmvu, "next_gqa": _next_gqa,
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_the_checker_and_evaluate_take_every_form_that_the_loader_reads(name: str, tmp_path: Path) -> None:
    make: Callable[[Path], int] = FORMS[name]
    count, benchmark = make(tmp_path), find_benchmark(name)
    assert len(read_copy(benchmark, tmp_path)) == count
    annotations, _, rows = missing_media(benchmark, tmp_path)
    assert (annotations, rows) == ([], count)
    with pytest.raises(BenchmarkError, match="videos and images are missing"):
        prepare(name, tmp_path, "strict", Changes(), allow_missing=False, limit=None, seed=0)


@pytest.mark.parametrize(
    ("name", "misplaced"),
    [("mmvu", "MMVU/data/validation.json"), ("next_gqa", "notes/test.txt"), ("video_mme", "subtitles/x.parquet")],
)
def test_a_file_where_the_loader_does_not_look_is_missing_for_the_checker(
    name: str, misplaced: str, tmp_path: Path
) -> None:
    put(tmp_path / misplaced, docs(name))
    benchmark = find_benchmark(name)
    assert missing_media(benchmark, tmp_path)[0] == benchmark.lacking(tmp_path) != []
    with pytest.raises(BenchmarkError, match="lacks .* or .*--check"):
        read_copy(benchmark, tmp_path)


def test_an_empty_copy_of_next_gqa_lacks_three_files(tmp_path: Path) -> None:
    lacking = find_benchmark("next_gqa").lacking(tmp_path)
    assert len(lacking) == 3
    assert all(name in line for name, line in zip(("test.csv", "gsub_test", "map_vid"), lacking, strict=True))


def test_a_folder_that_is_not_there_is_named_not_its_files(tmp_path: Path) -> None:
    command = ["score", "--benchmark", "mmvu", "--data", str(tmp_path / "nowhere"), "--check"]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, RunRefused) and "nowhere: there is no such folder" in str(done.exception)


def test_two_tasks_of_mvbench_are_scored_and_called_a_part(tmp_path: Path) -> None:
    COPIES["mvbench"][0](tmp_path)
    kept = ("action_antonym", "state_change")
    for path in (tmp_path / "json").iterdir():
        if path.stem not in kept:
            path.unlink()
    samples = read_copy(find_benchmark("mvbench"), tmp_path)
    assert {sample.metadata["task"] for sample in samples} == set(kept)
    assert len(missing_media(find_benchmark("mvbench"), tmp_path)[0]) == 18
    with pytest.raises(BenchmarkError, match="lacks json/action_sequence.json"):  # where answers are still to be made
        prepare("mvbench", tmp_path, "strict", Changes(), allow_missing=False, limit=None, seed=0)
    answers = [{"id": sample.id, "response": "<answer>B</answer>"} for sample in samples]
    put(tmp_path / "a.jsonl", answers)
    command = ["score", "--benchmark", "mvbench", "--data", str(tmp_path), "--input", str(tmp_path / "a.jsonl")]
    done = CliRunner().invoke(app, [*command, "--output", str(tmp_path / "r.json")])
    assert done.exit_code == 0 and "Not the official set: 4 items, where it has 4000" in " ".join(done.output.split())
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["complete_set"] is False
    shown = CliRunner().invoke(app, ["paper-table", str(tmp_path / "r.json")])
    assert f"{100 * result['headline']['value']:.1f}*" in shown.output
    assert "* mvbench: not the official set: 4 items, where it has 4000" in " ".join(shown.output.split())
    result["counts"]["expected"] = 4000  # a result of all of it bears no mark
    (tmp_path / "r.json").write_text(json.dumps(result))
    assert "*" not in CliRunner().invoke(app, ["paper-table", str(tmp_path / "r.json")]).output


def test_a_missing_file_is_reported_once_and_not_as_bad_json(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError) as refused:
        read_json(tmp_path / "a.json", dict)
    assert str(refused.value) == f"{tmp_path / 'a.json'}: there is no such file"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b'{"id": "1"}'), "no text in UTF-8"),
        ('{"id": "1"}'.encode("utf-16"), "no text in UTF-8"),
        (b"\x00\xff\xfe\x81", "no text in UTF-8"),
        (None, "this is a folder; name a file"),
    ],
    ids=["gzip", "utf-16", "binary", "folder"],
)
def test_what_is_no_text_file_is_refused_with_its_name(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    _ = path.mkdir() if content is None else path.write_bytes(content)
    for command in (["score", "--benchmark", "mmvu", "--input"], ["crosscheck", "--benchmark", "mmvu", "--input"]):
        done = CliRunner().invoke(app, [*command, str(path)])
        assert isinstance(done.exception, RunRefused) and f"{path}: {message}" in str(done.exception)
    done = CliRunner().invoke(app, ["paper-table", str(path)])
    assert isinstance(done.exception, RunRefused) and f"{path}: {message}" in str(done.exception)


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    row = {"id": "1", "doc": docs("mmvu")[0], "response": "<answer>B</answer>"}
    (tmp_path / "a.jsonl").write_text("\ufeff" + json.dumps(row) + "\n", encoding="utf-8")
    assert len(read_answers(find_benchmark("mmvu"), tmp_path / "a.jsonl", None).samples) == 1


def test_a_judges_reply_that_is_no_text_is_named(tmp_path: Path) -> None:
    put(tmp_path / "a.jsonl", [{"id": "1", "doc": docs("mmvu")[0], "response": "B", "judge_reply": 5}])
    with pytest.raises(BenchmarkError, match="a.jsonl:1: field judge_reply must be a text"):
        score_file("mmvu", "official", tmp_path / "a.jsonl")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _turned(content: Any) -> Callable[[Path], None]:
    return lambda path: put(path, content)


@pytest.mark.parametrize(
    ("name", "file", "damage", "message"),
    [
        ("video_mme", "videomme/test-00000-of-00001.parquet", _cut, "not a whole Parquet file"),
        ("mmvu", "data/validation.json", _turned({"rows": []}), "expected a list of rows, found dict"),
        ("mmvu", "data/validation.json", _turned(["a row"]), "row 1 is no object, but str"),
        ("tempcompass", "questions/yes_no.json", _turned([1]), "expected an object, found list"),
        ("tempcompass", "questions/yes_no.json", _turned({"1": [2]}), "is not as its publishers have it"),
        ("next_gqa", "datasets/nextgqa/gsub_test.json", _turned([]), "expected an object, found list"),
        ("mvbench", "json/state_change.json", _turned({}), "expected a list of rows, found dict"),
    ],
)
def test_a_damaged_annotation_file_is_named(
    name: str, file: str, damage: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    COPIES[name][0](tmp_path)
    damage(tmp_path / file)
    with pytest.raises(BenchmarkError, match=message) as refused:
        read_copy(find_benchmark(name), tmp_path)
    assert str(tmp_path) in str(refused.value)


@pytest.mark.parametrize(("name", "field"), [("mvbench", "task"), ("tempcompass", "form")])
def test_a_log_under_another_name_is_told_where_its_task_comes_from(name: str, field: str, tmp_path: Path) -> None:
    doc = {key: value for key, value in docs(name)[0].items() if key != field}
    put(tmp_path / "mine.jsonl", [{"doc_id": 7, "doc": doc, "resps": [["B"]]}])
    with pytest.raises(BenchmarkError, match=rf"mine.jsonl:1: {name}: a row without its {field}; .*file's name"):
        score_file(name, "official", tmp_path / "mine.jsonl")


def test_the_file_that_is_incomplete_is_named_of_two(tmp_path: Path) -> None:
    rows = [{"id": str(i), "doc": doc, "response": "<answer>B</answer>"} for i, doc in enumerate(docs("mmvu")[:2])]
    put(tmp_path / "mine.jsonl", rows)
    put(tmp_path / "theirs.jsonl", [rows[0], {**rows[1], "response": None}])
    with pytest.raises(BenchmarkError, match=r"--compare theirs.jsonl: 1 of 2 items have no score"):
        score_file("mmvu", "strict", tmp_path / "mine.jsonl", compare=tmp_path / "theirs.jsonl")
    with pytest.raises(BenchmarkError, match=r"mmvu: theirs.jsonl: 1 of 2 items have no score"):
        score_file("mmvu", "strict", tmp_path / "theirs.jsonl", compare=tmp_path / "mine.jsonl")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_readme_has_every_file_that_the_loader_seeks(name: str) -> None:
    line = next(line for line in README.read_text().splitlines() if line.startswith(f"| `{name}` | files"))
    patterns = [Path(pattern) for names in BENCHMARKS[name].annotations for pattern in names]
    assert all(str(path.parent).strip("*.") in line for path in patterns)
    assert "json/<task>.json" in line or all(path.name.removeprefix("*") in line for path in patterns)


def test_a_copy_of_the_wrong_kind_is_no_folder(tmp_path: Path) -> None:
    put(tmp_path / "a.json", {})
    with pytest.raises(BenchmarkError, match="a.json: there is no such folder"):
        read_copy(find_benchmark("mmvu"), tmp_path / "a.json")
