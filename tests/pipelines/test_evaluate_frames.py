"""Frames of a benchmark's videos: what is remembered, how far decoding runs ahead, what leaves the cache. No engine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from components.evaluation.benchmarks.contracts import FramePolicy
from components.ingest.settings import IngestSettings
from components.shared.schemas import Quarantined
from components.shared.store import FolderStore
from pipelines.benchmarking.frames import BenchmarkFrames, Medium, Seen
from tests.videos import write_video
from tests.waiting import decode_workers

POLICY = FramePolicy(max_frames=4, size=(56, 84))
SIZE = 4 * 56 * 84 * 3  # bytes of a video's frames


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight videos, and two more: a copy of the first, and a broken one."""
    folder = tmp_path_factory.mktemp("videos")
    for index in range(8):
        write_video(folder / f"{index}.mp4", frames=16, fps=8, seed=index)
    (folder / "copy.mp4").write_bytes((folder / "0.mp4").read_bytes())
    (folder / "broken.mp4").write_bytes((folder / "1.mp4").read_bytes()[:800])
    return folder


def open_frames(videos: Path, folder: Path, cached: float) -> BenchmarkFrames:
    """With room for so many videos' frames; one worker."""
    settings = IngestSettings(frame_cache_size=cached * (SIZE + 1000) / 1e9, decode_workers=1)
    return BenchmarkFrames(videos, POLICY, FolderStore(folder / "store"), settings, 28, folder / "scratch")


def test_decoding_runs_ahead_within_the_caches_bound_and_what_is_done_with_goes(videos: Path, tmp_path: Path) -> None:
    frames, media = open_frames(videos, tmp_path, 2.5), [Medium(f"{index}.mp4") for index in range(8)]
    held = []
    with frames.look(media) as looked:
        for number in range(1, 9):
            frames.need(number)
            seen = next(looked)
            assert isinstance(seen, Seen) and frames.load(seen).shape == (4, 56, 84, 3)
            held.append(len(list((tmp_path / "store/frames").iterdir())))
            frames.done_with(seen)
    # two are kept of those that are done with, and two are decoded ahead besides the one at hand
    assert max(held) <= 5, held
    assert len(list((tmp_path / "store/frames").iterdir())) == 2
    assert frames.known(media).keys() == set(media)  # their digests are remembered, though their frames are gone


def test_equal_contents_are_decoded_once_and_kept_while_one_is_needed(videos: Path, tmp_path: Path) -> None:
    frames, media = open_frames(videos, tmp_path, 0), [Medium("0.mp4"), Medium("copy.mp4")]
    with frames.look(media) as looked:
        frames.need(2)
        first, second = next(looked), next(looked)
        assert first == second and isinstance(first, Seen)
        frames.done_with(first)
        frames.load(first)
        frames.done_with(second)
        with pytest.raises(RuntimeError, match="run the command again"):
            frames.load(second)


def test_a_clip_has_frames_of_its_own_and_bad_media_are_set_apart(videos: Path, tmp_path: Path) -> None:
    frames = open_frames(videos, tmp_path, 10)
    media = [Medium("2.mp4"), Medium("2.mp4", (0.5, 1.5)), Medium("2.mp4", (2.0, 1.0)), Medium("broken.mp4")]
    with frames.look([*media, Medium("none.mp4")]) as looked:
        frames.need(5)
        whole, clip, *bad = looked
    assert isinstance(whole, Seen) and isinstance(clip, Seen) and whole.digest != clip.digest
    assert whole.fps == pytest.approx(3 / (15 / 8)) and clip.fps == pytest.approx(3 / (7 / 8))
    assert all(isinstance(one, Quarantined) for one in bad)
    assert [one.reason for one in bad if isinstance(one, Quarantined)] == ["bad_clip", "truncated", "missing"]
    assert frames.known(media).keys() == set(media[:2])
    os.utime(videos / "2.mp4")  # another time: it is read again, and found to be the same
    assert frames.known(media) == {}
    with frames.look(media[:1]) as looked:
        assert next(looked) == whole


def test_an_evaluation_that_ends_early_leaves_no_worker(videos: Path, tmp_path: Path) -> None:
    frames = open_frames(videos, tmp_path, 2.5)
    with (
        pytest.raises(KeyboardInterrupt),
        frames.look([Medium(f"{index}.mp4") for index in range(8)]) as looked,
    ):
        next(looked)
        raise KeyboardInterrupt
    assert decode_workers() == []
