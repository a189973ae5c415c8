"""What all runs in one process share: the data, the engine, and what the frozen vision tower has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from components.evaluation.questions import chosen_questions
from components.ingest.step import ingest
from components.shared.context import StepContext
from components.shared.dataset import DatasetReader
from components.shared.policy_inputs import banned_token_ids, load_processor
from components.shared.schemas import ArtifactRef, Sample
from components.training.policy import load_policy
from pipelines.settings import RunSettings
from tests.benchmarks.study.features import Recent, SeeingOnce
from tests.benchmarks.study.records import Questions
from tests.benchmarks.study.sampler import BatchSampler

LEVELS = ["L1", "L2", "L3"]
QUESTION_SEED = 0  # of the choice of questions where not all are asked: the same for every run
_ROWS = 256  # responses sampled at a time: enough to fill the matrices, few enough for the cache
_LM_HEAD_CHUNK = 2048


@dataclass(frozen=True)
class Inputs:
    """What ingest left, once for all runs."""

    store: Path
    dataset: ArtifactRef
    policy: ArtifactRef
    state: ArtifactRef

    def folder(self, ref: ArtifactRef) -> Path:
        """The folder of one of them."""
        return StepContext(store=str(self.store)).open_store().get(ref)


def ingested(settings: RunSettings, store: Path) -> Inputs:
    """Generate and decode Moving Shapes and take the base model in, by the ingest step; found again if it is done."""
    artifacts = ingest(settings.ingest, StepContext(store=str(store))).artifacts
    return Inputs(store, artifacts["dataset"], artifacts["policy"], artifacts["state"])


class Workplace:
    """One process's engine and data."""

    def __init__(self, inputs: Inputs, settings: RunSettings) -> None:
        self.inputs = inputs
        self.base, self.dataset = inputs.folder(inputs.policy), inputs.folder(inputs.dataset)
        self.reader, self.processor = DatasetReader(self.dataset), load_processor(self.base)
        self.seen: Recent[torch.Tensor] = Recent()
        generation = settings.generation.model_copy(update={"max_num_seqs": _ROWS})
        self.sampler = BatchSampler(self.new_policy(), self.processor, generation)

    def new_policy(self) -> SeeingOnce:
        """The base model, to be trained or sampled from; the vision tower's tokens are shared."""
        policy = SeeingOnce(load_policy(self.base, torch.float32), banned_token_ids(self.processor), _LM_HEAD_CHUNK)
        policy.seen = self.seen
        return policy

    def questions(self, levels: list[str], count: int) -> list[Sample]:
        """`count` questions of each level, 0: all; the same for every run."""
        return chosen_questions(self.reader, levels, count, QUESTION_SEED)


def described(samples: Sequence[Sample]) -> Questions:
    """The questions' ids and videos by level, in the order of a run's figures."""
    levels = sorted({sample.split for sample in samples})
    return Questions(
        ids={level: tuple(s.id for s in samples if s.split == level) for level in levels},
        videos={level: tuple(s.video for s in samples if s.split == level) for level in levels},
    )
