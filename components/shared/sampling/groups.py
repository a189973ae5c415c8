"""Prompts to scored groups, a chunk at a time, so that a killed step goes on where it was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from components.shared.context import StepContext, derived_seed
from components.shared.dataset import DatasetReader
from components.shared.generation import Prompt, Sampled, Sampler
from components.shared.groups import groups_from_parquet, groups_to_parquet
from components.shared.ledger import Ledger
from components.shared.rewards import RewardSettings, score
from components.shared.sampling.settings import SamplingSettings
from components.shared.sampling.tokens import banned_among, load_tokenizer
from components.shared.schemas import ArtifactRef, Augmentation, Group, Sample
from components.shared.sharding import Chunk, made_chunks


@dataclass(frozen=True)
class Request:
    """One prompt to sample: a sample as its augmentation shows it, or with its ground-truth answer given."""

    sample: Sample
    augmentation: Augmentation = Augmentation()
    given_answer: str = ""


@dataclass(frozen=True)
class Sampling:
    """What all chunks of one step share. `key` is the step's in the ledger."""

    context: StepContext
    ledger: Ledger
    key: str
    policy: ArtifactRef
    reader: DatasetReader
    sampler: Sampler
    settings: SamplingSettings
    rewards: RewardSettings


def build_prompt(reader: DatasetReader, request: Request) -> Prompt:
    """What the model is shown. The prompt's key is the sample's id."""
    sample = request.sample
    return Prompt(
        key=sample.id,
        sample=sample,
        frames=reader.augmented_frames(sample, request.augmentation),
        fps=reader.frames_record(sample.video).fps,
        hint=request.augmentation.hint,
        given_answer=request.given_answer,
        image=reader.frames(sample.image)[0] if sample.image else None,
    )


def sample_groups(
    sampling: Sampling, requests: Sequence[Request], *, purpose: str, label: str, n: int | None = None
) -> list[Group]:
    """A scored group of `n` responses (num_generations by default) a request, in the requests' order; in a shard its share.

    `purpose` keys the seeds and names the chunks, so that two uses in one step do not meet; `label` is what progress
    shows. Raises ValueError, naming the sample, if the sampler gives back something else than was asked for.
    """
    count = n or sampling.settings.num_generations
    size = sampling.settings.chunk_prompts

    def chunk(index: int) -> Chunk:
        these = requests[index * size : (index + 1) * size]
        return Chunk(
            name=f"{purpose}-{index:05d}.parquet",
            prompts=len(these),
            make=lambda: groups_to_parquet(_sample_chunk(sampling, these, purpose, count)),
        )

    chunks = [chunk(index) for index in range(math.ceil(len(requests) / size))]
    made = made_chunks(sampling.ledger, sampling.key, chunks, label=label, unit="prompts")
    return [group for data in made for group in groups_from_parquet(data)]


def _sample_chunk(sampling: Sampling, requests: Sequence[Request], purpose: str, n: int) -> list[Group]:
    context, policy = sampling.context, sampling.context.open_store().get(sampling.policy)
    tokenizer = load_tokenizer(policy)
    answers = sampling.sampler.sample(
        policy,
        [build_prompt(sampling.reader, request) for request in requests],
        n=n,
        seeds=[derived_seed(context.seed, context.round, request.sample.id, purpose) for request in requests],
        temperature=sampling.settings.temperature,
        max_completion_length=sampling.settings.max_completion_length,
    )
    groups = []
    for request, sampled in zip(requests, answers, strict=True):
        banned = banned_among(tokenizer, (token for r in sampled.responses for token in r.token_ids))
        _check(request, sampled, n, banned)
        groups.append(_scored(request, sampled, sampling.rewards, context.round))
    return groups


def _check(request: Request, sampled: Sampled, n: int, banned: Sequence[int]) -> None:
    name = request.sample.id
    if sampled.key != name:
        raise ValueError(f"sample {name}: the sampler answered prompt {sampled.key!r} in its place")
    if not sampled.prompt_token_ids:
        raise ValueError(f"sample {name}: the sampler reports no prompt token ids")
    if len(sampled.responses) != n:
        raise ValueError(f"sample {name}: {len(sampled.responses)} responses instead of {n}")
    if banned:
        raise ValueError(f"sample {name}: token ids {list(banned)} in a response are banned from sampling")


def _scored(request: Request, sampled: Sampled, rewards: RewardSettings, round_index: int) -> Group:
    responses = []
    for response in sampled.responses:
        by_name, total = score(
            request.sample, response.text, rewards.reward_funcs, rewards.reward_weights, rewards.answer_fallbacks
        )
        responses.append(response.model_copy(update={"rewards": by_name, "reward": total}))
    return Group(
        sample_id=request.sample.id,
        round=round_index,
        augmentation=request.augmentation,
        prompt_token_ids=sampled.prompt_token_ids,
        responses=tuple(responses),
    )
