"""Real media files, a policy folder of the smallest kind, and annotations that name them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from components.ingest.settings import IngestSettings
from components.shared.context import StepContext
from tests.broken_videos import write_audio
from tests.videos import write_video


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of good videos of differing size, rate, length and container, and of bad ones."""
    folder = tmp_path_factory.mktemp("media")
    write_video(folder / "small.mp4", frames=16, fps=8, seed=1)
    write_video(folder / "fast.mp4", frames=60, fps=30, width=128, height=96, seed=2)
    write_video(folder / "wide.mkv", frames=25, fps=5, width=160, height=48, seed=3)
    write_video(folder / "long.avi", frames=200, fps=10, seed=4)
    write_video(folder / "five.mp4", frames=5, fps=5, seed=5)
    write_video(folder / "one.mp4", frames=1, fps=5, seed=6)
    whole = (folder / "fast.mp4").read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    write_video(folder / "whole.mov", frames=30, fps=10, seed=7)  # its index stands at the end
    (folder / "no_index.mp4").write_bytes((folder / "whole.mov").read_bytes()[:-600])
    (folder / "zero.mp4").touch()
    (folder / "text.mp4").write_text("This is not a video.\n" * 50)
    write_audio(folder / "audio.mp4")
    pixels = np.arange(60 * 80 * 3, dtype=np.uint8).reshape(60, 80, 3)
    Image.fromarray(pixels).save(folder / "picture.mp4", format="png")
    Image.fromarray(pixels).save(folder / "picture.png")
    return folder


CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>", "<|image_pad|>"]


@pytest.fixture
def policy_folder(tmp_path: Path) -> Path:
    """A policy as ingest reads it: one token a byte, weights of no meaning."""
    folder = tmp_path / "base-model"
    folder.mkdir()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    vision = {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl", "vision_config": vision}))
    save_file({"lm_head.weight": np.zeros((4, 4), np.float32)}, folder / "model.safetensors")
    return folder


def question(video: str, **fields: object) -> dict[str, object]:
    """A row of annotations."""
    return {
        "video": video, "question": f"What is in {video}?", "options": ["red", "blue"], "answer": "A",
        "task": "multiple_choice", "split": "train", **fields,
    }  # fmt: skip


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    """Annotations as JSONL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def ask() -> Callable[..., dict[str, object]]:
    """`question`, for the tests."""
    return question


@pytest.fixture
def settings_for(tmp_path: Path, media: Path, policy_folder: Path) -> Callable[..., IngestSettings]:
    """Settings of an ingest of the given rows; the media files are linked beside the annotations."""

    def make(rows: list[dict[str, object]], **changes: object) -> IngestSettings:
        folder = tmp_path / "data"
        if not folder.exists():
            shutil.copytree(media, folder, copy_function=lambda source, target: Path(target).symlink_to(source))
        path = write_rows(folder / "annotations.jsonl", rows)
        return IngestSettings.model_validate(
            {"annotations": str(path), "model": str(policy_folder), "max_prompt_length": 2000, "decode_workers": 1}
            | changes
        )

    return make


@pytest.fixture
def context(tmp_path: Path) -> StepContext:
    """A run with a store of its own."""
    return StepContext(store=str(tmp_path / "store"))
