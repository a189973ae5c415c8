"""Annotations are checked row by row and field by field."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.ingest.annotation_files import read_rows
from components.ingest.annotations import Annotations, split_of
from components.ingest.errors import IngestError
from components.ingest.row_file import Row
from components.ingest.sources import FolderSource
from components.shared.schemas import Quarantined

ROW = {"video": "a.mp4", "question": "Which?", "options": ["red", "blue"], "answer": "A", "task": "multiple_choice"}


def read(path: Path, format_name: str = "auto"):
    """The good rows and the bad ones."""
    found = list(Annotations(path, format_name, FolderSource(path.parent).relative, lambda _video: "train"))
    return [row for row in found if isinstance(row, Row)], [row for row in found if isinstance(row, Quarantined)]


def jsonl(folder: Path, *rows: object) -> Path:
    path = folder / "annotations.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def only(folder: Path, **fields: object):
    """The single sample read from ROW with other fields; the AssertionError tells what was wrong with it."""
    good, bad = read(jsonl(folder, {name: value for name, value in (ROW | fields).items() if value != "absent"}))
    assert not bad, bad[0].detail
    return good[0].sample


def test_the_three_file_kinds_give_the_same_samples(tmp_path):
    rows = [
        {**ROW, "id": "one", "split": "L1", "source": "here", "licence": "CC0-1.0", "metadata": {"kind": "color"}},
        {"id": "two", "video": "b.mp4", "question": "When?", "answer": "1 to 2.5", "task": "temporal_grounding",
         "spans": [[1, 2.5]], "split": "train"},
    ]  # fmt: skip
    (tmp_path / "annotations.json").write_text(json.dumps(rows))
    columns = {name: [row.get(name) for row in rows] for name in {**rows[0], **rows[1]}}
    pq.write_table(pa.table(columns), tmp_path / "annotations.parquet")
    jsonl(tmp_path, rows[0], "", rows[1])
    read_back = [read(tmp_path / f"annotations.{kind}") for kind in ("json", "jsonl", "parquet")]
    for good, bad in read_back:
        assert bad == []
        assert [row.sample for row in good] == [row.sample for row in read_back[0][0]]
    assert [row.origin for row in read_back[1][0]] == ["annotations.jsonl:1", "annotations.jsonl:3"]
    assert read_back[0][0][1].sample.spans == ((1.0, 2.5),)


def test_a_parquet_map_is_metadata(tmp_path):
    table = pa.table({name: [value] for name, value in ROW.items()})
    table = table.append_column("metadata", pa.array([[("kind", "color")]], pa.map_(pa.string(), pa.string())))
    pq.write_table(table, tmp_path / "annotations.parquet")
    good, _ = read(tmp_path / "annotations.parquet")
    assert good[0].sample.metadata == {"kind": "color"}


@pytest.mark.parametrize("answer", ["B", "b", "(B)", "B.", "blue", " Blue "])
def test_a_choice_is_given_by_letter_or_by_text(tmp_path, answer):
    assert only(tmp_path, answer=answer).answer == "B"


def test_an_answer_that_may_mean_two_options_is_refused(tmp_path):
    with pytest.raises(AssertionError, match="answer: 'A' may mean any of the options A, B"):
        only(tmp_path, options=["B", "A"], answer="A")


def test_numbers_may_stand_where_text_is_expected(tmp_path):
    sample = only(tmp_path, options=[3, 4], answer=4, metadata={"level": 2})
    assert (sample.options, sample.answer, sample.metadata) == (("3", "4"), "B", {"level": "2"})
    assert only(tmp_path, options=[], task="numerical", answer=3.5).answer == "3.5"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"answer": "absent"}, "answer: Field required"),
        ({"question": ""}, "question: String should have at least 1 character"),
        ({"question": ["x"]}, "question: Input should be a valid string"),
        ({"task": "essay"}, "task: Input should be 'multiple_choice'"),
        ({"answer": "C"}, r"answer: 'C' is not one of the option letters \['A', 'B'\]"),
        ({"options": ["red"]}, "options: multiple_choice needs 2 to 26 options, got 1"),
        ({"options": [None, "red"]}, "options.0: Input should be a valid string"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"split": "held out"}, "split: String should match pattern"),
        ({"task": "numerical", "answer": "many"}, "answer: 'many' is not a number"),
        ({"task": "temporal_grounding", "answer": "1 to 2"}, "spans: temporal_grounding needs at least one"),
        ({"task": "temporal_grounding", "answer": "soon", "spans": [[1, 2]]}, "answer: 'soon' is not START to END"),
        ({"spans": [[2, 1]]}, r"spans: \(2.0, 1.0\) must satisfy 0 <= start < end"),
        ({"spans": [[1, 2, 3]]}, "spans.0: Tuple should have at most 2 items"),
        ({"video": "../a.mp4"}, "video: '../a.mp4' lies outside the videos' folder"),
        ({"image": "/etc/passwd"}, "image: '/etc/passwd' lies outside the videos' folder"),
        ({"video": "x" * 300}, "video: String should have at most 200 characters"),
        ({"metadata": "x"}, "metadata: Input should be a valid dictionary"),
        ({"options": "red,blue"}, "options: must be a list, such as "),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_with_the_field_and_what_is_wrong(tmp_path, changes, complaint):
    with pytest.raises(AssertionError, match=complaint):
        only(tmp_path, **changes)


def test_a_bad_row_does_not_stop_the_others(tmp_path):
    good, bad = read(jsonl(tmp_path, ROW, "{broken", [1], "null", {**ROW, "video": "b.mp4"}))
    assert [row.origin for row in good] == ["annotations.jsonl:1", "annotations.jsonl:5"]
    assert [(item.item, item.reason) for item in bad] == [
        (f"annotations.jsonl:{line}", "bad_row") for line in (2, 3, 4)
    ]
    assert bad[0].detail.startswith("row: is not JSON (") and bad[1].detail == "row: is not an object of named fields"


def test_an_absent_id_is_made_from_the_content(tmp_path):
    one, same = only(tmp_path), only(tmp_path, split="L1", source="elsewhere")
    assert one.id == same.id and len(one.id) == 16
    assert only(tmp_path, question="Where?").id != one.id


def test_a_full_path_below_the_videos_is_made_relative(tmp_path):
    assert only(tmp_path, video=str(tmp_path / "sub" / "a.mp4")).video == "sub/a.mp4"


def test_absent_splits_go_by_video_and_in_the_asked_shares():
    videos = [f"video-{index}.mp4" for index in range(4000)]
    splits = [split_of(video, 0.2, 0.1) for video in videos]
    assert splits == [split_of(video, 0.2, 0.1) for video in videos]
    # the standard deviation of a share of 0.2 over 4000 draws is 0.0063
    assert splits.count("L1") / 4000 == pytest.approx(0.2, abs=0.025)
    assert splits.count("promotion") / 4000 == pytest.approx(0.1, abs=0.02)
    assert set(splits) == {"train", "L1", "promotion"}


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("absent.jsonl", None, "absent.jsonl does not exist"),
        ("rows.csv", b"video,question", "ends in '.csv'"),
        ("rows.json", b"{", "is not JSON"),
        ("rows.json", b'{"a": 1}', "holds dict, not a list"),
        ("rows.jsonl", b"\n\n", "holds no row"),
        (
            "rows.jsonl",
            b'\n{"video" 1}\n',
            r"rows.jsonl:2: is not JSON \(Expecting ':' delimiter, character 10 of the line",
        ),
        ("rows.json", b"[1, 2]", "rows.json:1: is not an object of named fields, nor is any other row one"),
        ("rows.jsonl", b"\xff\xfe\x00", "cannot be read as UTF-8"),
        ("rows.parquet", b"PAR1 is not all of it", "is not a readable Parquet table"),
        (
            "rows.jsonl",
            b'{"clip": "a.mp4", "caption": "x"}',
            r"no known format fits its rows \(fields: caption, clip\)",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_a_remedy(tmp_path, name, content, complaint):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(
        IngestError, match=f"(?s){complaint}.*(annotations are a .json list|needs video, question, answer)"
    ):
        read(tmp_path / name)


def test_an_unknown_format_name_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(IngestError, match="annotation_format: 'coco' is not known; use auto or one of deepvideo"):
        read(jsonl(tmp_path, ROW), "coco")


RESPONSE = "<think>look at it. it is red.</think><answer>A</answer>"


def test_a_reference_response_is_kept_and_changes_no_id(tmp_path):
    without, taught = only(tmp_path), only(tmp_path, response=f" {RESPONSE}\n")
    assert taught.response == RESPONSE and without.response == ""
    assert taught.id == without.id


@pytest.mark.parametrize(
    ("response", "message"),
    [
        ("It is A.", "response: must be <think>...</think><answer>...</answer> and nothing else"),
        (f"{RESPONSE} I am sure.", "response: must be <think>"),
        (RESPONSE.replace(">A<", ">B<"), "response: its answer is not the row's, 'A'"),
        (RESPONSE.replace("red", "<|video_pad|>"), "response: holds <|video_pad|>"),
    ],
)
def test_a_response_that_a_round_would_not_reward_is_refused_by_name(tmp_path, response, message):
    good, (bad,) = read(jsonl(tmp_path, ROW | {"response": response}))
    assert good == [] and bad.item == "annotations.jsonl:1" and message in bad.detail


@pytest.mark.parametrize("blocks", [1, 7, 64, 1 << 20])
def test_a_json_list_is_read_in_pieces_of_any_size(tmp_path, monkeypatch, blocks):
    monkeypatch.setattr("components.ingest.annotation_files._BLOCK", blocks)
    values = [{"a": "x\u00e9]},[" * 9, "b": [1, {"c": None}]}, 12, -3.5e7, "text", None, True, [], {}]
    for indent, expected in ((None, values), (2, values), (None, [])):
        (tmp_path / "rows.json").write_text("\ufeff \n" + json.dumps(expected, indent=indent) + " \n")
        assert [row for _, row in read_rows(tmp_path / "rows.json")] == expected


@pytest.mark.parametrize("text", ["[1 2]", "[1,]", "[1", "[{]", "[1] 2", "[,1]", "[1,,2]", ""])
def test_what_is_no_json_list_is_refused_as_the_standard_library_does(tmp_path, text):
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
    with pytest.raises(IngestError, match="rows.json is not JSON"):
        list(read_rows(tmp_path / "rows.json"))
