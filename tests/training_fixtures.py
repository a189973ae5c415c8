"""What the training tests train on: a small dataset and groups of made-up responses."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from components.shared.context import StepContext
from components.shared.dataset import (
    FRAMES,
    QUARANTINE,
    REPORT,
    SAMPLES,
    DatasetReader,
    add_noise,
    frames_digest,
    write_records,
)
from components.shared.groups import groups_to_parquet
from components.shared.policy_inputs import load_processor, prompt_token_ids
from components.shared.sampling.artifacts import GROUPS, put_files
from components.shared.schemas import ArtifactRef, Augmentation, Frames, Group, Response, Sample
from components.shared.store import Store
from components.training.prepare import group_prompt

ANSWERS = (
    "<think>It moves to the left.</think><answer>A</answer>",
    "<think>The red square is above the circle. It is red.</think><answer>B</answer>",
    "<answer>C</answer>",
    "It is the blue one, I think.",
)
HINT = "The square is red"


def write_dataset(folder: Path, count: int, response: str = "") -> dict[str, Sample]:
    """A dataset as ingest leaves it: random videos of 2, 4 or 6 frames of 56 x 56 at 2 frames a second; every second
    sample has an image of 84 x 56 beside its video. Each has the `response` to learn from.
    """
    rng = np.random.default_rng(0)
    (folder / "frames").mkdir(parents=True)
    samples, records = {}, []

    def add(video: str, shape: tuple[int, int, int]) -> None:
        frames = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        file = f"frames/{video}.npy"
        np.save(folder / file, frames)
        times = tuple(0.5 * index for index in range(shape[0]))
        records.append(
            Frames(
                video=video, file=file, timestamps=times, fps=2.0, duration=0.5 * shape[0], height=shape[1],
                width=shape[2], digest=frames_digest(frames),
            )
        )  # fmt: skip

    for index in range(count):
        sample = Sample(
            id=f"s{index:02d}",
            video=f"v{index:02d}",
            image=f"i{index:02d}" if index % 2 else "",
            question="What color is the square?" + " Look twice." * (index % 3),
            options=("red", "green", "blue"),
            answer="B",
            task="multiple_choice",
            response=response,
        )
        add(sample.video, (2 + 2 * (index % 3), 56, 56))
        if sample.image:
            add(sample.image, (1, 84, 56))
        samples[sample.id] = sample
    write_records(folder / SAMPLES, samples.values())
    write_records(folder / FRAMES, records)
    write_records(folder / QUARANTINE, [])
    (folder / REPORT).write_text("{}")
    return samples


def make_group(
    dataset: Path, policy: Path, sample_id: str, *, responses: int = 4, kind: str = "none", equal: bool = False
) -> Group:
    """A group whose responses have different lengths and rewards, under a hint or noise if `kind` says so."""
    reader, processor = DatasetReader(dataset), load_processor(policy)
    augmentation = Augmentation()
    if kind == "hint":
        augmentation = Augmentation(kind="hint", level=0.5, hint=HINT)
    if kind == "noise":
        frames = add_noise(reader.frames(reader.sample(sample_id).video), 20.0, 7)
        augmentation = Augmentation(kind="noise", level=20.0, noise_seed=7, frames_digest=frames_digest(frames))
    rng = np.random.default_rng(int(sample_id[1:]))
    made = []
    for index in range(responses):
        text = ANSWERS[(index + int(sample_id[1:])) % len(ANSWERS)]
        ids = tuple(processor.tokenizer(text + "<|im_end|>")["input_ids"])[index % 2 :]
        made.append(
            Response(
                index=index,
                seed=index,
                token_ids=ids,
                text=text,
                logprobs=tuple(float(x) for x in -rng.random(len(ids))),
                finish_reason="length" if index == responses - 1 else "stop",
                rewards={"accuracy": 0.0},
                reward=1.0 if equal else float(rng.integers(0, 3)) + index % 2,
            )
        )
    draft = Group(sample_id=sample_id, round=1, augmentation=augmentation, prompt_token_ids=(), responses=tuple(made))
    ids = prompt_token_ids(processor, group_prompt(draft, reader))
    return draft.model_copy(update={"prompt_token_ids": ids})


def stored_inputs(store: Store, root: Path, policy: Path, groups: int, responses: int = 4) -> dict[str, ArtifactRef]:
    """The artifacts that the training step takes, in `store`; every third group hinted, every third noised."""
    dataset = root / "dataset"
    write_dataset(dataset, groups)
    kinds = ("none", "hint", "noise")
    made = [
        make_group(dataset, policy, f"s{i:02d}", responses=responses, kind=kinds[i % 3], equal=i == 4)
        for i in range(groups)
    ]
    copied = root / "policy"
    shutil.copytree(policy, copied)
    policy_ref = store.put(copied, "policy", {"model": "tiny"})
    return {
        "dataset": store.put(dataset, "dataset"),
        "policy": policy_ref,
        "reference": policy_ref,
        "groups": put_files(store, "groups", {GROUPS: groups_to_parquet(made)}),
        "state": put_files(store, "state", {"progress.json": b"{}"}, {"stop_reason": ""}),
    }


def warm_up_inputs(root: Path, policy: Path, store: str = "", **changes: object) -> SimpleNamespace:
    """Five samples of the train split with a response, one without, one of another split; and the policy.

    In a store below `root`, unless another is given.
    """
    samples = write_dataset(root / "dataset", 7)
    taught = [item.model_copy(update={"response": ANSWERS[1], **changes}) for item in samples.values()]
    taught[5] = taught[5].model_copy(update={"response": ""})
    taught[6] = taught[6].model_copy(update={"split": "L1"})
    write_records(root / "dataset" / SAMPLES, taught)
    context = StepContext(store=store or str(root / "store"), seed=3)
    copied = root / "policy"
    shutil.copytree(policy, copied)
    opened = context.open_store()
    refs = {
        "dataset": opened.put(root / "dataset", "dataset"),
        "policy": opened.put(copied, "policy", {"model": "tiny"}),
    }
    return SimpleNamespace(context=context, refs=refs, store=opened)
