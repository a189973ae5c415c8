"""Results: denominators, intervals by video, refusals, comparisons, and the commands themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from typer.testing import CliRunner

from components.evaluation.benchmarks import BENCHMARKS, BenchmarkError, find_benchmark
from components.evaluation.benchmarks.paper import own_row, paper_tables
from components.evaluation.benchmarks.strict import mean_relative_accuracy
from pipelines.cli import app
from pipelines.run_folder import RunRefused
from pipelines.score_cli import score_file

CASES = Path(__file__).with_name("cases")


def said(answer: str) -> str:
    return f"<think>x</think><answer>{answer}</answer>"


def case_doc(name: str, index: int = 0) -> dict[str, Any]:
    return json.loads((CASES / f"{name}.jsonl").read_text().splitlines()[index])["doc"]


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def mme(path: Path, answers: list[str | None], durations: str = "short") -> Path:
    """Ten questions a call at most, two a video; the right answer is C."""
    rows = [
        {
            "id": str(i),
            "response": answer,
            "doc": case_doc("video_mme") | {"question_id": f"{i:03d}", "videoID": f"v{i // 2}", "duration": durations},
        }
        for i, answer in enumerate(answers)
    ]
    return lines(path, rows)


def test_what_the_protocol_leaves_out_shrinks_its_denominator_alone(tmp_path: Path) -> None:
    file = mme(tmp_path / "a.jsonl", ["C", "C", "A", "no letter"])
    official, strict = score_file("video_mme", "official", file), score_file("video_mme", "strict", file)
    assert official["headline"]["value"] == pytest.approx(2 / 3)
    assert official["overall"]["figures"]["accuracy"]["items"] == 3
    assert (official["counts"]["left_out_by_protocol"], official["counts"]["parse_failures"]) == (1, 1)
    assert strict["headline"]["value"] == 0.0 and strict["counts"]["parse_failures"] == 4


def test_missing_items_are_refused_unless_told_and_then_both_denominators_stand(tmp_path: Path) -> None:
    file = mme(tmp_path / "a.jsonl", [said("C"), said("C"), said("A"), None])
    with pytest.raises(BenchmarkError, match=r"1 of 4 items have no score \(0 missing, 1 errors.*--allow-missing"):
        score_file("video_mme", "strict", file)
    figure = score_file("video_mme", "strict", file, allow_missing=True)["overall"]["figures"]["accuracy"]
    assert figure["value"] == pytest.approx(2 / 3) and figure["over_expected"] == pytest.approx(2 / 4)


def test_with_a_copy_at_hand_what_the_file_lacks_is_missing(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    (copy / "data").mkdir(parents=True)
    (copy / "data/validation.json").write_text(json.dumps([case_doc("mmvu", i) for i in range(3)]))
    file = lines(tmp_path / "a.jsonl", [{"id": "validation_0", "response": said("B")}])
    with pytest.raises(BenchmarkError, match="2 of 3 items have no score .2 missing"):
        score_file("mmvu", "strict", file, copy)
    result = score_file("mmvu", "strict", file, copy, allow_missing=True)
    assert not result["complete_set"] and result["counts"]["missing"] == 2
    with pytest.raises(BenchmarkError, match=r"1 ids are none of mmvu .*'other'.*validation_0"):
        score_file("mmvu", "strict", lines(tmp_path / "b.jsonl", [{"id": "other", "response": "B"}]), copy)


def test_the_headline_of_vsi_bench_is_the_mean_over_tasks_of_the_mean_over_directions(tmp_path: Path) -> None:
    """Directions easy 1, 1 and hard 0: 1/2. Counting: 1/1. Their mean is 3/4, while 3 of 4 answers is a coincidence."""
    direction, count = case_doc("vsi_bench", 5), case_doc("vsi_bench", 0)
    hard = direction | {"question_type": "object_rel_direction_hard"}
    docs = [direction, direction, direction, hard, count]
    answers = [said("B"), said("B"), said("B"), said("A"), said("4")]
    rows = [
        {"id": str(i), "response": a, "doc": d | {"id": i}} for i, (a, d) in enumerate(zip(answers, docs, strict=True))
    ]
    result = score_file("vsi_bench", "strict", lines(tmp_path / "a.jsonl", rows))
    assert result["headline"]["value"] == pytest.approx(((3 / 3 + 0 / 1) / 2 + 1) / 2)
    assert result["overall"]["figures"]["accuracy"]["value"] == pytest.approx(4 / 5)
    assert result["groupings"]["task"]["macro"]["accuracy"]["value"] == pytest.approx((3 / 4 + 1) / 2)


def test_strict_relative_accuracy_is_exact() -> None:
    """Thresholds 0.05 to 0.5 that lie above the error: 0.2 -> 0.25, ..., 0.5 are 6; 0.1 -> 8; 0.25 -> 5; 0.5 -> 0."""
    found = [mean_relative_accuracy(text, "10") for text in ("12", "11", "12.5", "15", "10", "1,000", "8")]
    assert found == [0.6, 0.8, 0.5, 0.0, 1.0, 0.0, 0.6]
    assert mean_relative_accuracy("0", "0") == 1.0 and mean_relative_accuracy("0.1", "0") == 0.0


def test_two_policies_are_compared_item_by_item_and_video_by_video(tmp_path: Path) -> None:
    """Five videos of two questions, all won: a sign test over 5 videos, not over 10 questions."""
    after, before = mme(tmp_path / "a.jsonl", [said("C")] * 10), mme(tmp_path / "b.jsonl", [said("A")] * 10)
    compared = score_file("video_mme", "strict", after, compare=before)["comparison"]
    figure = compared["figures"]["headline"]
    assert compared["items"] == 10 and (figure["value"], figure["low"], figure["high"]) == (1.0, 1.0, 1.0)
    assert figure["p_value"] == pytest.approx(stats.binomtest(5, 5).pvalue, abs=0.01)
    other = mme(tmp_path / "c.jsonl", [said("C")] * 8)
    with pytest.raises(BenchmarkError, match="holds other items"):
        score_file("video_mme", "strict", after, compare=other)


def test_the_interval_is_clustered_by_video(tmp_path: Path) -> None:
    """Pairs that always agree: half as many observations, so an interval wider than that of as many single videos."""
    paired = mme(tmp_path / "a.jsonl", [said("C" if i // 2 % 2 else "A") for i in range(60)])
    rows = [json.loads(line) for line in paired.read_text().splitlines()]
    for i, row in enumerate(rows):
        row["doc"]["videoID"] = f"single{i}"
    single = lines(tmp_path / "b.jsonl", rows)
    widths = []
    for file in (paired, single):
        headline = score_file("video_mme", "strict", file)["headline"]
        widths.append(headline["high"] - headline["low"])
    assert widths[0] == pytest.approx(2**0.5 * widths[1], rel=0.15)


def test_unwrapping_gives_direct_protocols_the_answer_alone(tmp_path: Path) -> None:
    file = mme(tmp_path / "a.jsonl", ["<think>A or B?</think><answer>C</answer>"] * 2)
    assert score_file("video_mme", "official", file)["headline"]["value"] == 0.0
    assert score_file("video_mme", "official", file, unwrap=True)["headline"]["value"] == 1.0
    with pytest.raises(BenchmarkError, match="--unwrap: protocol strict"):
        score_file("video_mme", "strict", file, unwrap=True)


def test_fall_backs_loosen_strict_alone(tmp_path: Path) -> None:
    file = mme(tmp_path / "a.jsonl", ["C", "four"])
    assert score_file("video_mme", "strict", file, fallbacks=("whole_response",))["headline"]["value"] == 0.5
    assert (
        score_file("video_mme", "strict", file, fallbacks=("whole_response", "option_text"))["headline"]["value"] == 1.0
    )
    with pytest.raises(BenchmarkError, match="not protocol official"):
        score_file("video_mme", "official", file, fallbacks=("option_text",))


def test_logs_of_lmms_eval_are_read(tmp_path: Path) -> None:
    logged = {
        "doc_id": 3,
        "doc": case_doc("video_mme"),
        "target": "C",
        "resps": [["The best answer is C"]],
        "filtered_resps": ["C"],
        "doc_hash": "x",
    }
    file = lines(tmp_path / "20260101_000000_samples_videomme.jsonl", [logged])
    assert score_file("video_mme", "official", file)["items"][0]["parsed"] == "C"
    clip = {k: v for k, v in case_doc("mvbench").items() if k not in ("task", "index")}
    file = lines(tmp_path / "x_samples_mvbench_action_antonym.jsonl", [{"doc_id": 7, "doc": clip, "resps": [["(B)"]]}])
    found = score_file("mvbench", "official", file)
    assert found["items"][0]["id"] == "action_antonym/7" and found["headline"]["value"] == 1.0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"id": "1"', "a.jsonl:1: not valid JSON"),
        ('["1", "C"]', "a.jsonl:1: expected an object"),
        ('{"id": "1", "response": "C"}', "no doc .*--data"),
        ('{"response": "C"}', "neither id nor doc"),
        ('{"id": "1", "doc": {}, "response": "C"}', "lacks the field 'question_id'"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(row + "\n")
    with pytest.raises(BenchmarkError, match=message):
        score_file("video_mme", "strict", tmp_path / "a.jsonl")


def test_a_text_that_is_none_and_an_item_answered_twice_are_named(tmp_path: Path) -> None:
    row = {"id": "1", "doc": case_doc("video_mme"), "response": 3}
    with pytest.raises(BenchmarkError, match="a.jsonl:1: field response must be a text"):
        score_file("video_mme", "strict", lines(tmp_path / "a.jsonl", [row]))
    row["response"] = "C"
    with pytest.raises(BenchmarkError, match="a.jsonl:2: item 001-1 is answered twice"):
        score_file("video_mme", "strict", lines(tmp_path / "a.jsonl", [row, row]))
    for wrong, message in (("videomme", "there are seed_bench_r1"), ("video_mme", "it has strict, official, video_r1")):
        with pytest.raises(BenchmarkError, match=message):
            score_file(wrong, "oficial", tmp_path / "a.jsonl")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_command_scores_every_case_file_as_the_original_did(name: str, tmp_path: Path) -> None:
    cases = [json.loads(line) for line in (CASES / f"{name}.jsonl").read_text().splitlines()]
    command = ["score", "--benchmark", name, "--protocol", "official", "--input", str(CASES / f"{name}.jsonl")]
    done = CliRunner().invoke(app, [*command, "--output", str(tmp_path / "result.json")])
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "result.json").read_text())
    expected = [case["outcomes"]["official"]["score"] for case in cases]
    tolerance = 0.04 if name == "longvideobench" else 1e-9  # there the original draws options at random, 4,000 times
    assert [item["score"] for item in result["items"]] == pytest.approx(expected, abs=tolerance)
    counted = [score for score in expected if score is not None]
    assert result["overall"]["figures"]["accuracy"]["value"] == pytest.approx(
        sum(counted) / len(counted), abs=tolerance
    )
    assert result["source"] and result["protocol"] == "official" and result["protocol_version"] == 1
    assert f"{len(cases)} of {len(cases)} items scored" in done.output


def test_the_command_refuses_with_a_sentence_and_lists_what_a_copy_lacks(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["score", "--benchmark", "mmvu", "--data", str(tmp_path), "--check"])
    assert isinstance(done.exception, RunRefused) and "1 annotation files" in str(done.exception)
    assert "data/validation.json or validation.json" in done.output
    done = CliRunner().invoke(app, ["score", "--benchmark", "mmvu"])
    assert isinstance(done.exception, RunRefused) and "--input" in str(done.exception)


def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    file, rival = (mme(tmp_path / name, [said("C")]) for name in ("a.jsonl", "b.jsonl"))
    before = {path: path.read_bytes() for path in (file, rival)}
    command = ["score", "--benchmark", "video_mme", "--input", str(file), "--compare", str(rival)]
    for output, words in (
        (tmp_path, "is a folder; name a file in it"),
        (file, "is an input of this command"),
        (rival, "is an input of this command"),
        (file / "x.json", "nothing can be written to"),
        (Path("/proc/x.json"), "nothing can be written to /proc"),
    ):
        done = CliRunner().invoke(app, [*command, "--output", str(output)])
        assert isinstance(done.exception, RunRefused) and words in str(done.exception), done.output
        assert "accuracy" not in done.output
    judge = ["--protocol", "official", "--judge-url", "http://127.0.0.1:9/v1", "--judge-model", "m"]
    for more, words in (
        (judge, "protocol official asks no judge here; leave it out"),
        (["--benchmark", "mmvu", *judge, "--store", str(rival)], f"--store {rival}: is a file; name a folder"),
        (["--benchmark", "mmvu", *judge, "--store", "/proc/store"], "--store /proc/store: nothing can be written to"),
        (["--data", str(tmp_path), "--output", str(rival)], "is an input of this command"),
    ):
        done = CliRunner().invoke(app, ["score", "--benchmark", "video_mme", "--input", str(file), *more])
        assert isinstance(done.exception, RunRefused) and words in str(done.exception), done.output
    done = CliRunner().invoke(app, ["crosscheck", *command[1:5], "--output", str(file)])
    assert isinstance(done.exception, RunRefused) and "is an input" in str(done.exception)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before  # and nothing is left behind
    assert CliRunner().invoke(app, [*command, "--output", str(tmp_path / "new/r.json")]).exit_code == 0


def test_of_two_files_the_incomplete_one_is_named(tmp_path: Path) -> None:
    whole, holed = mme(tmp_path / "a.jsonl", [said("C")] * 2), mme(tmp_path / "b.jsonl", [said("C"), None])
    with pytest.raises(
        BenchmarkError, match=r"^video_mme: --compare b.jsonl: 1 of 2 .*: complete the file, or aggregate"
    ):
        score_file("video_mme", "strict", whole, compare=holed)
    with pytest.raises(BenchmarkError, match=r"^video_mme: b.jsonl: 1 of 2"):
        score_file("video_mme", "strict", holed, compare=whole)


def test_fall_backs_are_given_one_by_one_and_help_names_paper(tmp_path: Path) -> None:
    command = ["score", "--benchmark", "video_mme", "--input", str(mme(tmp_path / "a.jsonl", ["C"]))]
    done = CliRunner().invoke(app, [*command, "--fallback", "whole_response,option_text"])
    assert isinstance(done.exception, RunRefused) and "give the option once for each" in str(done.exception)
    told = " ".join(CliRunner().invoke(app, ["score", "--help"], env={"COLUMNS": "200"}).output.split())
    assert "paper: where its figures come from" in told and "option_text; repeatable" in told


def test_the_papers_tables_have_ones_own_figures_in_their_last_row(tmp_path: Path) -> None:
    for table in paper_tables():
        assert all(len(row) == len(table.columns) for row in table.rows.values())
        assert {column.benchmark for column in table.columns.values()} <= set(BENCHMARKS)
        for column in table.columns.values():
            benchmark = find_benchmark(column.benchmark)
            assert column.figure in benchmark.figures and (
                not column.grouping or column.grouping in benchmark.groupings
            )
    assert {column.benchmark for table in paper_tables() for column in table.columns.values()} == set(BENCHMARKS)
    result = score_file("next_gqa", "videochat_r1", CASES / "next_gqa.jsonl")
    iou, accuracy = own_row(paper_tables()[2], [result])
    assert iou and accuracy and accuracy["value"] == result["headline"]["value"]
    assert iou["value"] == result["overall"]["figures"]["iou"]["value"]
    files = [tmp_path / "r.json", tmp_path / "again.json"]
    for file in files:
        file.write_text(json.dumps(result))
    done = CliRunner().invoke(app, ["paper-table", *map(str, files)])
    assert isinstance(done.exception, RunRefused) and all(
        f"{file} (protocol videochat_r1)" in str(done.exception) for file in files
    )
    done = CliRunner().invoke(app, ["paper-table", str(files[0]), "--name", "mine"])
    assert done.exit_code == 0 and "mine" in done.output and "36.8" in done.output and "Table 1" not in done.output
