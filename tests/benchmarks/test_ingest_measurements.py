"""The measurements of ingest, small: what they print is what happened."""

from __future__ import annotations

from tests.benchmarks import broken_videos, million_rows
from tests.broken_videos import WAYS


def test_every_broken_file_is_quarantined_for_its_reason_and_no_row_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(broken_videos, "_DEADLINE", 20.0)
    found = broken_videos.check(tmp_path, files=30, broken=12, passes=2, decoder="decord")
    assert found["broken"] == len(WAYS) == 12
    assert found["wrong_reasons"] == {} and found["lost_rows"] == 0 and found["same_dataset"]


def test_many_rows_over_few_videos_decode_each_once(tmp_path):
    found = million_rows.measure(tmp_path, rows=300, videos=10)
    assert (found["samples"], found["files_decoded"]) == (300, 10) and found["peak_mb"] > 0
