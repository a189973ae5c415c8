"""A small dataset, policy folder and sampler for the tests of the steps that sample.

The sampler says what a test scripts it to say and derives its token ids with the policy folder's own tokenizer. It
stands for what a policy says, not for an engine: engines have tests of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from components.shared.context import StepContext
from components.shared.dataset import FRAMES, QUARANTINE, REPORT, SAMPLES, frames_digest, write_records
from components.shared.generation import GenerationSettings, Prompt, Sampled
from components.shared.prompts import BANNED_TOKENS
from components.shared.sampling.artifacts import BUFFER, put_files
from components.shared.schemas import ArtifactRef, Frames, Response, Sample

OPTIONS = ("red", "green", "blue")
RIGHT = "<think>look at the square. not red. it is green.</think><answer>B</answer>"
WRONG = "<think>look at the square. it is red.</think><answer>A</answer>"
MALFORMED = "green"


def sample(index: int, split: str = "train") -> Sample:
    """A question whose right answer is B, green."""
    return Sample(
        id=f"s{index:03d}",
        video=f"v{index:03d}",
        question="What color is the square?",
        options=OPTIONS,
        answer="B",
        task="multiple_choice",
        split=split,
    )


def write_dataset(folder: Path, samples: Sequence[Sample], videos: Sequence[np.ndarray] | None = None) -> Path:
    """A dataset as ingest leaves it: a video a sample, one frame a second. Without `videos` 2 x 28 x 28 random pixels."""
    rng = np.random.default_rng(0)
    videos = videos or [rng.integers(0, 256, (2, 28, 28, 3), dtype=np.uint8) for _ in samples]
    (folder / "frames").mkdir(parents=True)
    records = []
    for item, frames in zip(samples, videos, strict=True):
        count, height, width, _ = frames.shape
        digest = frames_digest(frames)
        np.save(folder / "frames" / f"{digest}.npy", frames)
        records.append(
            Frames(
                video=item.video, file=f"frames/{digest}.npy", timestamps=tuple(map(float, range(count))), fps=1.0,
                duration=float(count), height=height, width=width, digest=digest,
            )
        )  # fmt: skip
    write_records(folder / SAMPLES, samples)
    write_records(folder / FRAMES, records)
    write_records(folder / QUARANTINE, [])
    (folder / REPORT).write_text('{"max_hint_tokens": 64}')
    return folder


def tokenizer() -> Tokenizer:
    """A byte-level tokenizer without merges: one token a byte, and the vision tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([*BANNED_TOKENS, "<|im_end|>"])
    return made


Script = Callable[[Prompt, int], str]  # the prompt and the response's seed -> its text


@dataclass
class ScriptedSampler:
    """Says `script(prompt, seed)`. `calls` are the keys of the prompts of each call."""

    script: Script
    settings: GenerationSettings = GenerationSettings()
    startup_seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    calls: list[list[str]] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)

    def sample(
        self,
        policy: Path,
        prompts: Sequence[Prompt],
        *,
        n: int,
        seeds: Sequence[int],
        temperature: float,
        max_completion_length: int,
    ) -> list[Sampled]:
        words = Tokenizer.from_file(str(policy / "tokenizer.json"))
        self.calls.append([prompt.key for prompt in prompts])
        self.prompts += prompts
        self.seeds += seeds
        answers = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            ids = words.encode(prompt.sample.question + prompt.hint).ids
            texts = [self.script(prompt, seed + i) for i in range(n)]
            said = [_response(words, i, seed + i, text, max_completion_length) for i, text in enumerate(texts)]
            answers.append(Sampled(prompt.key, tuple(ids), tuple(said)))
        return answers

    def close(self) -> None:
        self.settings = GenerationSettings()


def _response(words: Tokenizer, index: int, seed: int, text: str, longest: int) -> Response:
    ids = words.encode(text + "<|im_end|>").ids
    ids = ids[:longest]
    return Response(
        index=index,
        seed=seed,
        token_ids=tuple(ids),
        text=text,
        logprobs=(-0.5,) * len(ids),
        finish_reason="stop" if ids[-1] == words.token_to_id("<|im_end|>") else "length",
    )


@dataclass(frozen=True)
class Round:
    """References to what a round begins with."""

    context: StepContext
    dataset: ArtifactRef
    policy: ArtifactRef
    buffer: ArtifactRef
    state: ArtifactRef


def begin_round(
    folder: Path, samples: Sequence[Sample], videos: Sequence[np.ndarray] | None = None, round_index: int = 1
) -> Round:
    """A store in `folder` with a dataset, a policy of a tokenizer alone, an empty buffer and an empty state."""
    context = StepContext(store=str(folder / "store"), seed=3, round=round_index)
    store = context.open_store()
    return Round(
        context=context,
        dataset=store.put(write_dataset(folder / "dataset", samples, videos), "dataset"),
        policy=put_files(store, "policy", {"tokenizer.json": tokenizer().to_str().encode()}),
        buffer=put_files(store, "buffer", {BUFFER: b""}),
        state=put_files(store, "state", {"state.json": b"{}"}),
    )
