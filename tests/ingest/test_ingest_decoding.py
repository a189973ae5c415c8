"""Frames of unusual files, by each decoder that is here, and which frames a policy takes."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from components.ingest.decode_pool import DecodeWorker, Rejected
from components.ingest.decode_worker import video
from components.ingest.frame_sampling import FrameSampling, clip_of, within
from components.ingest.readers import open_video
from components.ingest.readers.contracts import Unusable
from tests.broken_videos import WAYS, rotate, write_broken, write_uneven
from tests.videos import DECODERS, write_video


def write_waves(path: Path, *, frames: int, fps: int, width: int, height: int) -> None:
    """Smooth pictures that move, as cameras take them: blocks with hard edges would measure the scaling instead."""
    rows, columns = np.mgrid[0:height, 0:width]
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(frames):
            red = 127 + 120 * np.sin((columns + 3 * i) / 40)
            green, blue = 127 + 120 * np.cos((rows - 2 * i) / 30), 127 + 100 * np.sin((columns + rows + 5 * i) / 50)
            pixels = np.stack([red, green, blue], axis=-1).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def read(path: Path, decoder: str, count: int = 8, size: int = 112) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(times of all frames, indices, their frames)."""
    reader = open_video(str(path), decoder, size)
    times = reader.times()
    indices = FrameSampling(num_frames=count).choose(times)
    return times, indices, reader.frames(indices)


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """The largest mean difference of a frame, grey levels."""
    return float(np.abs(one.astype(int) - other).mean(axis=(1, 2, 3)).max())


@pytest.fixture(scope="module")
def waves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("waves") / "waves.mp4"
    write_waves(path, frames=90, fps=30, width=320, height=240)
    return path


@pytest.mark.parametrize("count", [2, 8, 90])
@pytest.mark.parametrize("decoder", DECODERS[1:])
def test_all_decoders_give_the_same_frames_for_the_same_timestamps(waves, decoder, count):
    times, indices, frames = read(waves, DECODERS[0], count)
    same_times, same_indices, same_frames = read(waves, decoder, count)
    assert times == pytest.approx(same_times, abs=1e-5) and times[-1, 1] == pytest.approx(3.0, abs=1e-5)
    assert indices.tolist() == same_indices.tolist()
    assert apart(frames, same_frames) <= 2.0
    assert apart(frames[:-1], same_frames[1:]) > 2.0  # the measure sees a difference of one place


@pytest.mark.parametrize(("width", "height"), [(322, 182), (98, 354)])
@pytest.mark.parametrize("decoder", DECODERS[1:])
def test_odd_sizes_become_the_same_squares(tmp_path, decoder, width, height):
    write_waves(tmp_path / "odd.mkv", frames=10, fps=10, width=width, height=height)
    one, other = (read(tmp_path / "odd.mkv", name)[2] for name in (DECODERS[0], decoder))
    assert one.shape == (8, 112, 112, 3) and apart(one, other) <= 2.0


@pytest.mark.parametrize("decoder", DECODERS[1:])
def test_an_avi_whose_frames_are_stored_in_another_order_than_shown(waves, tmp_path, decoder):
    write_waves(tmp_path / "waves.avi", frames=90, fps=30, width=320, height=240)  # with B frames, as libx264 does it
    times, _, frames = read(tmp_path / "waves.avi", decoder, 30)
    stored_with_times = read(waves, "pyav", 30)[2]
    assert times[-1, 1] == pytest.approx(3.0, abs=1e-3)
    assert apart(frames, stored_with_times) <= 2.0 < apart(frames[:-1], stored_with_times[1:])


@pytest.mark.parametrize("name", ["uneven.mp4", "uneven.mkv"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_variable_frame_rate_keeps_its_times(tmp_path, name, decoder):
    begins = [0, 40, 80, 900, 950, 2000, 2040, 4040]
    write_uneven(tmp_path / name, begins)
    times, _, _ = read(tmp_path / name, decoder)
    assert times[:, 0] == pytest.approx([begin / 1000 for begin in begins], abs=2e-3)


@pytest.mark.parametrize(("degrees", "quarters"), [(90, 3), (180, 2), (270, 1)])
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_rotated_video_is_upright(waves, tmp_path, decoder, degrees, quarters):
    (tmp_path / "turned.mp4").write_bytes(rotate(waves.read_bytes(), degrees))
    upright = np.rot90(read(waves, decoder)[2], quarters, axes=(1, 2))  # counter-clockwise quarters
    assert apart(upright, read(tmp_path / "turned.mp4", decoder)[2]) <= 3.0
    assert apart(np.rot90(upright, 1, axes=(1, 2)), read(tmp_path / "turned.mp4", decoder)[2]) > 30.0


@pytest.mark.parametrize("decoder", DECODERS)
def test_an_hour_is_sampled_to_its_end(tmp_path, decoder):
    write_video(tmp_path / "hour.mp4", frames=3600, fps=1, width=32, height=32)
    times, indices, frames = read(tmp_path / "hour.mp4", decoder, 16, 28)
    assert (indices[0], indices[-1], len(frames)) == (0, 3599, 16) and times[-1, 1] == pytest.approx(3600)
    assert len({frame.tobytes() for frame in frames}) == 16


@pytest.mark.parametrize("way", [way for way in WAYS if way != "hangs"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_each_way_of_being_broken_has_its_reason(waves, tmp_path, decoder, way):
    write_broken(tmp_path / "a.mp4", way, waves.read_bytes(), seed=5)
    with pytest.raises(Unusable) as caught:
        video(
            str(tmp_path / "a.mp4"),
            str(tmp_path / "out.npy"),
            decoder=decoder,
            frame_size=56,
            sampling={"num_frames": 8},
        )
    assert caught.value.reason == WAYS[way][1]


def test_pyav_works_in_a_worker_and_a_crash_there_is_told(waves, tmp_path):
    worker = DecodeWorker(tmp_path / "log", "pyav")
    try:
        request = {"path": str(waves), "out": str(tmp_path / "o.npy"), "decoder": "pyav", "frame_size": 56}
        times = worker.ask(60, operation="video", **request, sampling={"num_frames": 4}, clip=[1.0, 2.0])
        assert times["timestamps"] == pytest.approx([0, 10 / 30, 19 / 30, 29 / 30], abs=1e-4)
        assert times["duration"] == pytest.approx(1.0, abs=1e-4)
        with pytest.raises(Rejected, match="too_short: the clip of 2.95 to 9 s has 1 frame"):
            worker.ask(60, operation="video", **request, sampling={"num_frames": 4}, clip=[2.95, 9.0])
    finally:
        worker.end()


def evenly(total: int, fps: float) -> np.ndarray:
    """The times of `total` frames at a constant rate."""
    begins = np.arange(total) / fps
    return np.stack([begins, begins + 1 / fps], axis=1)


@pytest.mark.parametrize(
    ("total", "num_frames", "expected"),
    [(100, 4, [0, 33, 66, 99]), (8, 8, list(range(8))), (5, 8, [0, 1, 3, 4]), (3, 16, [0, 2]), (2, 2, [0, 1])],
)
def test_frames_are_uniform_even_and_within_the_video(total, num_frames, expected):
    # numpy rounds 1.33, 2.67 to 1, 3; linspace as in qwen-vl-utils
    assert FrameSampling(num_frames=num_frames).choose(evenly(total, 10)).tolist() == expected


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        # 10 s at 10 a second. 100 // 8 = 12; centres of eighths: (i + 0.5) 12.5
        ({"indices": "stride"}, [0, 12, 24, 36, 48, 60, 72, 84]),
        ({"indices": "stride", "include_last": True}, [0, 12, 24, 36, 48, 60, 72, 99]),
        ({"indices": "segment_centres"}, [6, 18, 31, 43, 56, 68, 81, 93]),
        ({"fps": 0.4}, [0, 33, 66, 99]),  # 4 frames in 10 s
        ({"fps": 2.0}, [0, 14, 28, 42, 57, 71, 85, 99]),  # 20 frames, capped at 8
        ({"fps": 0.01}, [0, 99]),  # never fewer than two
        ({"fps": 0.55}, [0, 33, 66, 99]),  # 5 frames, an even number of them
    ],
)
def test_each_policy_takes_the_frames_that_its_definition_says(sampling, expected):
    assert FrameSampling(num_frames=8, **sampling).choose(evenly(100, 10)).tolist() == expected


@pytest.mark.parametrize("sampling", [{}, {"indices": "stride"}, {"indices": "segment_centres", "include_last": True}])
def test_no_index_lies_past_the_last_frame_or_comes_twice(sampling):
    for total in range(2, 300):
        indices = FrameSampling(num_frames=16, **sampling).choose(evenly(total, 10))
        assert indices[0] >= 0 and indices[-1] <= total - 1 and np.all(np.diff(indices) > 0) and len(indices) % 2 == 0


def test_a_clip_is_named_as_media_fragments_are():
    assert clip_of("a/b.mp4#t=5,7.5") == ("a/b.mp4", (5.0, 7.5))
    assert clip_of("b.mp4#t=,7") == ("b.mp4", (0.0, 7.0)) and clip_of("b.mp4#t=3") == ("b.mp4", (3.0, float("inf")))
    assert clip_of("b.mp4") == ("b.mp4", None) and clip_of("b#1.mp4#t=") == ("b#1.mp4#t=", None)
    assert within(evenly(10, 10), (0.2, 0.5)).tolist() == [2, 3, 4]
