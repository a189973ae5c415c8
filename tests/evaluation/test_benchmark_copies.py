"""Loaders and the checker on small files in each benchmark's own layout, made from the cases' rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.evaluation.benchmarks import BENCHMARKS, BenchmarkError, find_benchmark
from components.evaluation.benchmarks.responses import missing_media
from components.shared.prompts import option_letter
from tests.benchmark_copies import COPIES, docs, put


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_copy_in_the_official_layout_is_read_and_every_protocol_can_ask_its_questions(
    name: str, tmp_path: Path
) -> None:
    make, count = COPIES[name]
    make(tmp_path)
    benchmark = find_benchmark(name)
    samples = [benchmark.sample(row) for row in benchmark.rows(tmp_path)]
    assert len(samples) == count and len({sample.id for sample in samples}) == count
    for sample in samples:
        assert any(grouping in sample.metadata for grouping in benchmark.groupings)
        for protocol in benchmark.protocols:
            asked = protocol.prompt(sample)
            assert sample.question.splitlines()[0] in asked
            assert all(option in asked for option in sample.options)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_checker_lists_what_a_copy_lacks_file_by_file(name: str, tmp_path: Path) -> None:
    benchmark = find_benchmark(name)
    annotations, media, _ = missing_media(benchmark, tmp_path)
    assert annotations == [" or ".join(names) for names in benchmark.annotations] and not media
    with pytest.raises(BenchmarkError, match=str(tmp_path)):
        list(benchmark.rows(tmp_path))
    make, count = COPIES[name]
    make(tmp_path)
    annotations, media, rows = missing_media(benchmark, tmp_path)
    assert not annotations and media and rows == count
    for path in media[1:]:
        put(tmp_path / path, "a video")
    assert missing_media(benchmark, tmp_path)[1] == media[:1]
    put(tmp_path / media[0], "a video")
    assert missing_media(benchmark, tmp_path)[1] == []


def test_the_fields_of_a_row_land_where_they_belong(tmp_path: Path) -> None:
    """One row a benchmark, worked out by hand from the official formats."""
    first = {name: find_benchmark(name).sample(docs(name)[0]) for name in BENCHMARKS}
    assert first["seed_bench_r1"].video == "videos/EpicKitchens/P01_01.mp4"
    assert first["seed_bench_r1"].image == "images/EpicKitchens/P01_01_900.png"
    assert first["longvideobench"].answer == option_letter(1)
    assert first["longvideobench"].metadata == {"duration": "(180, 600]", "category": "S2A"}
    assert first["next_gqa"].answer == "C" and first["next_gqa"].spans == ((0.0, 5.0), (10.0, 15.0))
    assert first["vsi_bench"].task == "regression" and first["vsi_bench"].video == "arkitscenes/41069025.mp4"
    assert first["video_mmmu"].video == "Science/new_Biology_0.mp4"
    assert first["mmvu"].video == "videos/Chemistry/0.mp4" and first["mmvu"].options == ("5", "10", "15", "20", "25")
    assert first["mvbench"].video == "video/ssv2_video/7.webm" and first["mvbench"].answer == "B"
    assert first["tempcompass"].options == ("dribbling", "dunking a ball", "passing")
    assert first["video_mme"].options == ("Two.", "Three.", "Four.", "Five.") and first["video_mme"].answer == "C"


def test_sizes_are_those_of_the_official_sets() -> None:
    sizes = {name: benchmark.size for name, benchmark in BENCHMARKS.items()}
    assert sizes == {
        "seed_bench_r1": 4676, "longvideobench": 1337, "next_gqa": 5553, "vsi_bench": 5130, "video_mmmu": 900,
        "mmvu": 625, "mvbench": 4000, "tempcompass": 7540, "video_mme": 2700,
    }  # fmt: skip
