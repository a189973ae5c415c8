"""The records that steps hand to one another. Every record is immutable, checked, and refuses fields it does not know."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION = 1

Task = Literal["multiple_choice", "numerical", "regression", "ocr", "free_form", "temporal_grounding", "grounded_qa"]
PromptTemplate = Literal["deepvideo", "seed_bench_r1", "video_r1", "videochat_r1"]
Kind = Literal["dataset", "policy", "state", "buffer", "difficulty", "augmentation", "groups", "scores", "report"]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Span = tuple[float, float]

TRAIN_SPLIT = "train"
TUNING_SPLIT = "tuning"
PROMOTION_SPLIT = "promotion"
DEFAULT_TEMPLATE: PromptTemplate = "deepvideo"


class Record(BaseModel):
    """Base of all contracts: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Sample(Record):
    """One question about one video, as annotations give it after every field was checked.

    `response` is a whole response to learn from, in the prompt's format; the supervised warm-up alone reads it. `answer` is the
    option's letter for multiple choice, a number's text for numerical and regression, "START to END" in
    seconds for temporal grounding, text otherwise. `spans` are ground-truth intervals in seconds. `split` is `train`,
    `tuning`, `promotion`, or the name of a held-out level such as `L1`. `prompt_template` is how the question is asked
    (`prompt_templates.TEMPLATES`); the default one is not written.
    """

    id: Name
    video: Name
    image: str = ""
    question: Annotated[str, Field(min_length=1)]
    options: tuple[str, ...] = ()
    answer: Annotated[str, Field(min_length=1)]
    task: Task
    spans: tuple[Span, ...] = ()
    response: str = ""
    split: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] = TRAIN_SPLIT
    source: str = ""
    licence: str = ""
    metadata: dict[str, str] = {}
    prompt_template: Annotated[PromptTemplate, Field(exclude_if=lambda name: name == DEFAULT_TEMPLATE)] = (
        DEFAULT_TEMPLATE
    )

    @model_validator(mode="after")
    def _task_fields(self) -> Sample:
        if self.task == "multiple_choice":
            if not 2 <= len(self.options) <= 26:
                raise ValueError(f"options: multiple_choice needs 2 to 26 options, got {len(self.options)}")
            letters = [chr(ord("A") + i) for i in range(len(self.options))]
            if self.answer not in letters:
                raise ValueError(f"answer: {self.answer!r} is not one of the option letters {letters}")
        if self.task in ("numerical", "regression"):
            try:
                float(self.answer.replace(",", ""))
            except ValueError:
                raise ValueError(f"answer: {self.answer!r} is not a number") from None
        if self.task in ("temporal_grounding", "grounded_qa") and not self.spans:
            raise ValueError(f"spans: {self.task} needs at least one (start, end) in seconds")
        for start, end in self.spans:
            if not 0 <= start < end:
                raise ValueError(f"spans: ({start}, {end}) must satisfy 0 <= start < end")
        return self


class Frames(Record):
    """The frames of one video, decoded once at ingest: uint8 (T, H, W, 3) in `file`, a .npy inside the dataset artifact."""

    video: Name
    file: Name
    timestamps: tuple[float, ...]  # seconds, one a frame, ascending
    fps: Annotated[float, Field(gt=0)]  # of the sampled frames, not of the file
    duration: Annotated[float, Field(gt=0)]  # of the whole video, seconds
    height: int
    width: int
    digest: str  # sha256 of the array's bytes and shape


class Quarantined(Record):
    """A row or a video that was left out, and why."""

    item: str  # "annotations.jsonl:17" or the video's name
    reason: str
    detail: str = ""
    samples: int = 1  # how many samples it took along


class Augmentation(Record):
    """What was done to a sample before rollout.

    `level` is the hint's share of the reasoning, the noise's standard deviation in grey levels, or the share of the video's
    temporal patches to mask, before it is rounded to whole ones.
    """

    kind: Literal["none", "hint", "noise", "mask"] = "none"
    delta: float = 0.0
    level: float = 0.0
    hint: str = ""
    noise_seed: int = 0
    masked_frames: tuple[int, ...] = ()  # from 0, ascending
    frames_digest: str = ""  # of the noised or masked frames; empty when the frames are untouched
    reason: str = ""  # why a sample stays as it is although |delta| is outside the dead band


class Response(Record):
    """One sampled response. `token_ids` includes EOS where the model produced it; `logprobs` are the sampler's, one a token."""

    index: int
    seed: int
    token_ids: tuple[int, ...]
    text: str
    logprobs: tuple[float, ...]
    finish_reason: Literal["stop", "length"]
    rewards: dict[str, float] = {}
    reward: float = 0.0  # weighted sum of `rewards`

    @model_validator(mode="after")
    def _one_logprob_a_token(self) -> Response:
        if len(self.logprobs) != len(self.token_ids):
            raise ValueError(f"logprobs: {len(self.logprobs)} values for {len(self.token_ids)} tokens")
        return self


class Group(Record):
    """One prompt with its G responses. A group is never split."""

    sample_id: Name
    round: int
    augmentation: Augmentation = Augmentation()
    prompt_token_ids: tuple[int, ...]  # as the model sees them, video pads expanded
    responses: tuple[Response, ...]


class Difficulty(Record):
    """A sample's difficulty: `delta` = a reference (the replay buffer's mean, or a constant) - `mean_reward`, in [-1, 1]."""

    sample_id: Name
    mean_reward: float  # rewards divided by their task's maximum, mean over the group
    delta: float
    all_equal: bool


class ArtifactRef(Record):
    """A version in the artifact store. It travels in place of the content; `metadata` is not part of the digest."""

    kind: Kind
    uri: str
    digest: str
    size: int  # bytes
    metadata: dict[str, str | int | float | bool] = {}
