"""The settings of ingest."""

from __future__ import annotations

from pydantic import model_validator

from components.ingest.frame_sampling import FrameSampling, Indices
from components.ingest.readers.contracts import Decoder
from components.shared.schemas import DEFAULT_TEMPLATE, PromptTemplate
from components.shared.settings import StepSettings, setting

MOVING_SHAPES = "moving-shapes"
TINY = "tiny"
REGISTRY = "models:/"


class IngestSettings(StepSettings):
    """What is read, how it is sampled, and when ingest refuses to go on."""

    annotations: str = setting(
        MOVING_SHAPES,
        "Annotations: path or s3:// URI of a .json, .jsonl or .parquet file, or `moving-shapes`, which are generated.",
    )
    annotation_format: str = setting(
        "auto",
        "Format of the annotations' rows: `auto` or a format's name (`deepvideo`, `next_gqa`, `seed_bench_r1`, "
        "`video_r1`).",
    )
    prompt_template: PromptTemplate = setting(
        DEFAULT_TEMPLATE,
        "How questions are asked of rows that do not say so themselves: in this project's words, or in those that "
        "SEED-Bench-R1, Video-R1 or VideoChat-R1 train with.",
    )
    shuffle_options: bool = setting(
        False, "Put the options of each training row into an order of its own; rows with a response keep theirs."
    )
    option_seed: int = setting(
        0, "Seed of the options' order, and of SEED-Bench-R1's options, which are drawn for each training row.", ge=0
    )
    videos: str = setting(
        "", "Folder or s3:// prefix that the annotations' videos lie in; empty: the folder of the annotations."
    )
    moving_shapes_seed: int = setting(0, "Seed of the generated questions, if `annotations` is `moving-shapes`.", ge=0)
    model: str = setting(
        TINY,
        "Base model: a folder, an s3:// prefix, a hub id with `model_revision`, `tiny` for the project's own, or "
        "`models:/NAME@ALIAS` for the registry's; `models:/NAME@ALIAS else MODEL` while that points to nothing.",
    )
    model_revision: str = setting("", "Commit of the hub id in `model`, 40 hexadecimal digits.")
    num_frames: int = setting(
        8, "Frames sampled uniformly from a video; a shorter video gives the even number it has.", unit="frames",
        ge=2, le=1024, multiple_of=2,
    )  # fmt: skip
    frame_size: int = setting(
        56, "Side of the square that frames are resized to.", unit="pixels", ge=28, le=4480, multiple_of=28
    )
    max_prompt_length: int = setting(
        1024,
        "A prompt longer than this, vision tokens included, is left out and never truncated.",
        unit="tokens",
        ge=16,
    )
    max_hint_tokens: int = setting(
        64, "Room kept under max_prompt_length in training prompts for an augmentation's hint.", unit="tokens", ge=0
    )
    frame_fps: float = setting(
        0.0,
        "Frames sampled a second of video, at most `num_frames` of them in all; 0: always `num_frames`.",
        unit="frames a second",
        ge=0,
    )
    frame_indices: Indices = setting(
        "linspace",
        "Which frames are sampled: `linspace`, from the first to the last; `stride`, every so many from the first; "
        "`segment_centres`, the middle of each of as many equal parts.",
    )
    include_last_frame: bool = setting(
        False, "The video's last frame takes the place of the last one sampled; `linspace` always has it."
    )
    decoder: Decoder = setting(
        "decord",
        "What reads videos: `decord`, `pyav`, or `torchcodec` (an extra). All give the same frames; the latter two read "
        "files that decord cannot.",
    )
    frame_cache_size: float = setting(
        20.0,
        "Decoded frames kept in the store for later ingests of the same videos, the least recently used go first.",
        unit="GB",
        ge=0,
    )
    decode_timeout: float = setting(60.0, "Time that reading a video may take, and decoding it.", unit="seconds", gt=0)
    decode_workers: int = setting(0, "Processes that decode; 0: one a CPU.", unit="processes", ge=0, le=256)
    max_quarantine_fraction: float = setting(
        0.1, "Ingest stops if more than this fraction of the samples cannot be used.", unit="fraction", ge=0, le=1
    )
    held_out_fraction: float = setting(
        0.1,
        "Fraction of the videos that rows without a split give to the held-out level L1.",
        unit="fraction",
        ge=0,
        lt=1,
    )
    promotion_fraction: float = setting(
        0.1,
        "Fraction of the videos that rows without a split give to the promotion split.",
        unit="fraction",
        ge=0,
        lt=1,
    )

    def sampling(self) -> FrameSampling:
        """Which frames of a video are kept."""
        return FrameSampling(
            num_frames=self.num_frames,
            fps=self.frame_fps,
            indices=self.frame_indices,
            include_last=self.include_last_frame,
        )

    def shapes_outputs(self) -> dict[str, object]:
        """The settings that the artifacts depend on."""
        return self.model_dump(mode="json", exclude={"decode_workers", "frame_cache_size"})

    @model_validator(mode="after")
    def _leaves_train(self) -> IngestSettings:
        if self.held_out_fraction + self.promotion_fraction >= 1:
            raise ValueError("held_out_fraction + promotion_fraction must be below 1: no train split is left")
        if self.max_hint_tokens >= self.max_prompt_length:
            raise ValueError("max_hint_tokens must be below max_prompt_length")
        return self
