"""Intervals and p-values of benchmarks: none where resamples lack a group, one test for all figures, exact where it can be."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from typer.testing import CliRunner

from components.evaluation.benchmarks import find_benchmark
from components.evaluation.benchmarks.intervals import DROPPED, estimate, p_value, share_without_a_group
from components.shared.statistics import Mix, Ratio
from pipelines.cli import app
from pipelines.score_cli import score_file
from pipelines.score_text import print_result
from tests.benchmark_copies import docs, put


def answers(path: Path, given: list[str | None], durations: list[str], videos: list[str] | None = None) -> Path:
    """Questions of Video-MME, a video each unless told otherwise; the right answer is C."""
    names = videos or [f"v{i}" for i in range(len(given))]
    rows = [
        {
            "id": str(i),
            "response": answer and f"<answer>{answer}</answer>",
            "doc": docs("video_mme")[0] | {"question_id": f"{i:03d}", "videoID": video, "duration": duration},
        }
        for i, (answer, duration, video) in enumerate(zip(given, durations, names, strict=True))
    ]
    put(path, rows)
    return path


def grouped(members: list[int]) -> Mix:
    """The mean over groups of 0 and 1 in turns, one video a question, so many questions a group."""
    group = np.repeat(np.arange(len(members)), members)
    values = np.arange(len(group)) % 2.0
    return [(1 / len(members), Ratio(values * (group == g), (group == g) * 1.0)) for g in range(len(members))]


def test_the_share_of_resamples_that_lack_a_group_is_bounded() -> None:
    """Of 3 groups of 1 in 3 videos 3! of 3^3 resamples have all: 21 / 27 lack one; the bound is 3 (2/3)^3."""
    videos = ["a", "b", "c"]
    lacking = [set(draw) != set(videos) for draw in itertools.product(videos, repeat=3)]
    bound = share_without_a_group(grouped([1, 1, 1]), videos)
    assert bound == pytest.approx(3 * (2 / 3) ** 3) and np.mean(lacking) == pytest.approx(21 / 27) and bound > 21 / 27
    for size, sound in ((4, False), (5, True)):  # inclusion and exclusion: two of three groups at once are absent too
        bound = share_without_a_group(grouped([size] * 3), [str(i) for i in range(3 * size)])
        exact = 3 * (2 / 3) ** (3 * size) - 3 * (1 / 3) ** (3 * size)
        assert exact <= bound < 1.1 * exact and (bound <= DROPPED) is sound


def test_a_mean_over_groups_has_no_interval_where_resamples_would_lack_one() -> None:
    few, enough = [1, 3, 6], [6, 6, 6]
    found = estimate(grouped(few), [str(i) for i in range(10)], 0)
    assert found["value"] is not None and (found["low"], found["high"]) == (None, None)
    assert "resamples of videos lack a group" in found["no_interval"]
    found = estimate(grouped(enough), [str(i) for i in range(18)], 0)
    assert found["low"] < found["value"] < found["high"] and found["no_interval"] == ""


def test_groups_that_share_their_videos_need_no_more_videos() -> None:
    values = np.array([0, 1, 1, 0, 1, 0.0])
    group = np.arange(6) % 2
    mix = [(0.5, Ratio(values * (group == g), (group == g) * 1.0)) for g in (0, 1)]
    assert estimate(mix, ["a", "a", "b", "b", "c", "c"], 0)["low"] is not None


def test_the_terminal_says_why_there_is_no_interval(tmp_path: Path) -> None:
    """As found by a user: one video a duration gave `33.3 [33.3, 33.3]`."""
    file = answers(tmp_path / "a.jsonl", ["C", "A", "A", "A", "C"], ["short", "medium", "long", "long", "short"])
    done = CliRunner().invoke(app, ["score", "--benchmark", "video_mme", "--input", str(file)])
    words = " ".join(done.output.split())
    assert done.exit_code == 0 and "no interval for mean over duration: up to" in words
    macro = score_file("video_mme", "strict", file)["groupings"]["duration"]["macro"]["accuracy"]
    assert macro["value"] == pytest.approx(1 / 3) and macro["low"] is None


def test_a_group_without_a_score_counts_as_0_over_all_expected(tmp_path: Path) -> None:
    """short 1/1, medium 1/2 with one missing, long 0/1: over expected 1, 1/2 and 0, their mean 1/2, of all items 2/4."""
    file = answers(tmp_path / "a.jsonl", ["C", "C", None, None], ["short", "medium", "medium", "long"])
    result = score_file("video_mme", "strict", file, allow_missing=True)
    found = result["groupings"]["duration"]
    shares = {name: row["figures"]["accuracy"]["over_expected"] for name, row in found["groups"].items()}
    assert shares == {"short": 1.0, "medium": 0.5, "long": 0.0}
    assert found["macro"]["accuracy"]["over_expected"] == pytest.approx(0.5)
    assert found["macro"]["accuracy"]["value"] == 1.0  # of what has a score
    assert result["headline"]["over_expected"] == result["overall"]["figures"]["accuracy"]["over_expected"] == 0.5
    terminal = io.StringIO()
    print_result(find_benchmark("video_mme"), result, Console(file=terminal, width=160))
    row = next(line for line in terminal.getvalue().splitlines() if "mean over duration" in line and "│" in line)
    assert {"100.0", "50.0"} <= {cell.strip() for cell in row.split("│")}


def test_a_group_that_the_protocol_leaves_out_is_none_of_all_expected(tmp_path: Path) -> None:
    """Video-R1's rule leaves all captions out; one yes or no is missing, one is right."""
    rows: list[dict[str, Any]] = []
    for form, response in (("captioning", "a caption"), ("yes_no", "<answer>no</answer>"), ("yes_no", None)):
        doc = next(doc for doc in docs("tempcompass") if doc["form"] == form)
        rows.append({"id": str(len(rows)), "doc": doc | {"index": len(rows)}, "response": response})
    rows[1]["response"] = f"<answer>{rows[1]['doc']['answer']}</answer>"
    put(tmp_path / "a.jsonl", rows)
    result = score_file("tempcompass", "video_r1", tmp_path / "a.jsonl", allow_missing=True)
    found = result["groupings"]["form"]
    assert found["groups"]["captioning"]["figures"]["accuracy"]["over_expected"] is None
    assert found["macro"]["accuracy"]["over_expected"] == 0.5


def test_one_difference_has_one_p_value_and_one_interval(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for name, chance in (("a", 0.6), ("b", 0.5)):
        given = ["C" if hit else "A" for hit in rng.random(60) < chance]
        answers(tmp_path / f"{name}.jsonl", given, ["short"] * 60)
    compared = score_file("video_mme", "strict", tmp_path / "a.jsonl", compare=tmp_path / "b.jsonl")["comparison"]
    assert compared["figures"]["headline"] == compared["figures"]["accuracy"]


def test_a_p_value_of_few_videos_is_exact() -> None:
    """Against every way of swapping, written out; two questions on a video are swapped together."""
    videos = ["a", "a", "b", "c", "d", "e"]
    after, before = np.array([1, 1, 0, 1, 1, 0.0]), np.array([0, 1, 1, 0, 0, 0.0])
    group = np.array([0, 1, 0, 1, 0, 1])

    def mix(values: NDArray[np.float64]) -> Mix:
        return [(0.5, Ratio(values * (group == g), (group == g) * 1.0)) for g in (0, 1)]

    def mean(values: NDArray[np.float64]) -> float:
        return float(np.mean([values[group == g].mean() for g in (0, 1)]))

    differences = []
    for swapped in itertools.product((False, True), repeat=5):
        swap = np.array([dict(zip("abcde", swapped, strict=True))[video] for video in videos])
        differences.append(mean(np.where(swap, before, after)) - mean(np.where(swap, after, before)))
    observed = abs(mean(after) - mean(before))
    expected = np.mean(np.abs(differences) >= observed - 1e-12)
    assert p_value(mix(after), mix(before), videos, 0) == pytest.approx(expected)
    assert p_value(mix(after), mix(before), videos, 0) == p_value(mix(after), mix(before), videos, 7)


def test_many_videos_are_swapped_at_random_near_the_exact_value() -> None:
    """15 videos won and 5 lost: a sign test, P = 2 P(X >= 15) of 20 coins = 0.0414 (binomial)."""
    after, before = np.repeat([1.0, 0.0], [15, 5]), np.repeat([0.0, 1.0], [15, 5])
    videos = [str(i) for i in range(20)]
    found = p_value([(1.0, Ratio.mean(after))], [(1.0, Ratio.mean(before))], videos, 0)
    assert found == pytest.approx(0.0414, abs=0.005)
