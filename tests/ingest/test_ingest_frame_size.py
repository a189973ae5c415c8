"""Frames in a size that keeps the video's shape, and folders of pictures as videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.ingest.decode_worker import digest, image, video
from components.ingest.frame_sampling import FrameSampling
from components.ingest.frame_size import FrameSize
from components.ingest.readers.contracts import Unusable
from components.shared.torchvision_compat import ensure_torchvision
from tests.broken_videos import rotate
from tests.videos import write_video

TOKEN = 28 * 28


@pytest.mark.parametrize("shape", [(480, 640), (1080, 1920), (64, 48), (30, 900), (2160, 3840), (252, 252)])
@pytest.mark.parametrize("bounds", [(4 * TOKEN, 128 * TOKEN), (128 * TOKEN, 768 * TOKEN)])
def test_the_size_is_that_of_qwens_own_rule(shape: tuple[int, int], bounds: tuple[int, int]) -> None:
    """smart_resize of transformers; qwen-vl-utils' `fetch_video` lowers its upper bound by the pixels of all frames."""
    ensure_torchvision()
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    least, most = bounds
    for frames in (2, 16, 768):
        allowed = max(min(most, 3584 * TOKEN / frames * 2), int(least * 1.05))
        expected = smart_resize(*shape, factor=28, min_pixels=least, max_pixels=allowed)
        size = FrameSize(min_pixels=least, max_pixels=most, total_pixels=3584 * TOKEN)
        assert size.of(*shape, frames) == tuple(expected)


def test_a_fixed_size_is_as_it_is_and_too_long_a_shape_is_refused() -> None:
    assert FrameSize(fixed=(252, 224)).of(1080, 1920, 16) == (252, 224)
    with pytest.raises(ValueError, match="28 x 9000 pixels"):
        FrameSize().of(28, 9000, 2)


def test_at_least_min_frames_are_kept_where_the_video_has_them() -> None:
    """qwen-vl-utils' smart_nframes: 2 frames a second of a second and a half are 3, brought to 4."""
    times = np.stack([np.arange(12), np.arange(1, 13)], axis=1) / 8
    assert len(FrameSampling(num_frames=16, fps=2).choose(times)) == 2
    assert FrameSampling(num_frames=16, fps=2, min_frames=4).choose(times).tolist() == [0, 4, 7, 11]
    assert len(FrameSampling(num_frames=16, fps=2, min_frames=4).choose(times[:3])) == 2


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
@pytest.mark.parametrize("turned", [False, True])
def test_frames_keep_the_shape_that_a_player_shows(tmp_path: Path, decoder: str, turned: bool) -> None:
    path, out = tmp_path / "a.mp4", tmp_path / "out.npy"
    write_video(path, frames=20, fps=10, width=128, height=64)
    if turned:
        path.write_bytes(rotate(path.read_bytes(), 90))
    fields = FrameSize(min_pixels=4 * TOKEN, max_pixels=16 * TOKEN).model_dump()
    made = video(str(path), str(out), decoder=decoder, frame_size=fields, sampling={"num_frames": 10})  # type: ignore[arg-type]
    frames = np.load(out)
    assert frames.shape == ((10, 140, 56, 3) if turned else (10, 56, 140, 3)) and len(made["timestamps"]) == 10


def test_a_folder_of_pictures_is_a_video_of_the_rate_in_its_name(tmp_path: Path) -> None:
    folder, out = tmp_path / "frames_fps3_hq" / "episode", tmp_path / "out.npy"
    folder.mkdir(parents=True)
    for index in range(9):
        Image.new("RGB", (64, 48), (20 * index, 0, 0)).save(folder / f"{index + 1:05d}.png")
    size = FrameSize(fixed=(56, 84)).model_dump()
    made = video(str(folder), str(out), decoder="decord", frame_size=size, sampling={"num_frames": 4}, clip=(1.0, 3.0))
    frames = np.load(out)
    assert frames.shape == (4, 56, 84, 3)
    assert frames[:, 0, 0, 0].tolist() == [60, 100, 120, 160]  # the six pictures from second 1 on: 0, 2, 3, 5 of them
    assert made["timestamps"] == pytest.approx([0, 2 / 3, 1, 5 / 3], abs=1e-5)
    before = digest(str(folder))
    (folder / "00009.png").unlink()
    assert digest(str(folder)) != before
    with pytest.raises(Unusable, match="holds no pictures"):
        (tmp_path / "fps3").mkdir()
        video(str(tmp_path / "fps3"), str(out), decoder="decord", frame_size=56, sampling={"num_frames": 4})


def test_an_image_takes_the_same_size(tmp_path: Path) -> None:
    Image.new("RGB", (300, 150)).save(tmp_path / "a.png")
    image(str(tmp_path / "a.png"), str(tmp_path / "out.npy"), frame_size=FrameSize(fixed=(252, 252)).model_dump())
    assert np.load(tmp_path / "out.npy").shape == (1, 252, 252, 3)
