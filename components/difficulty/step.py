"""The difficulty step: a group of responses a sample, its difficulty, and the replay buffer after the round."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from components.difficulty.formula import delta, normalised_mean, reference_reward, updated_buffer
from components.difficulty.selection import round_ids
from components.difficulty.settings import DifficultySettings
from components.shared.context import StepContext
from components.shared.dataset import DatasetReader
from components.shared.generation import Sampler
from components.shared.groups import groups_to_parquet
from components.shared.ledger import Outputs
from components.shared.prompts import is_well_formed
from components.shared.rewards import RewardSettings, check_rewards, max_reward
from components.shared.rewards.accuracy import is_right
from components.shared.sampling import artifacts
from components.shared.sampling.groups import Request, Sampling, sample_groups
from components.shared.sampling.keys import sampling_key
from components.shared.sampling.metrics import completion_metrics, reward_metrics, zero_std
from components.shared.sampling.settings import SamplingSettings
from components.shared.schemas import TRAIN_SPLIT, ArtifactRef, Difficulty, Group, Sample

_BINS = np.linspace(-1, 1, 21)  # of the difficulty's histogram


def estimate_difficulty(
    dataset: ArtifactRef,
    policy: ArtifactRef,
    buffer: ArtifactRef,
    state: ArtifactRef,
    settings: DifficultySettings,
    sampler: Sampler,
    context: StepContext,
    *,
    sampling: SamplingSettings,
    rewards: RewardSettings,
) -> Outputs:
    """Artifacts `difficulty` (a Difficulty and an un-augmented group a sample, in the round's order) and `buffer`.

    A shard leaves its share of the groups to the step that merges them, and no artifacts.

    Raises ValueError before any sampling if the train split has fewer samples than a round takes, or a reward cannot be
    used.
    """
    store, ledger = context.open_store(), context.open_ledger()
    if reason := artifacts.stop_reason(state):
        files = {artifacts.DIFFICULTY: b"", artifacts.GROUPS: groups_to_parquet([])}
        empty = artifacts.put_files(store, "difficulty", files, {"skipped": reason})
        return artifacts.skipped(reason, {"difficulty": empty, "buffer": buffer})
    check_rewards(rewards.reward_funcs, rewards.reward_weights)
    inputs = {"dataset": dataset, "policy": policy, "buffer": buffer}
    key = sampling_key(ledger, "difficulty", inputs, context, settings, sampler, sampling, rewards)
    if done := ledger.finished(key):
        return done
    started, startup = time.perf_counter(), sampler.startup_seconds
    reader = DatasetReader(store.get(dataset))
    train = {sample.id: sample for sample in reader.samples(TRAIN_SPLIT)}
    samples = [train[name] for name in round_ids(list(train), context.seed, context.round, settings.prompts_per_round)]
    largest = [max_reward(sample, rewards.reward_funcs, rewards.reward_weights) for sample in samples]
    shared = Sampling(context, ledger, key, policy, reader, sampler, sampling, rewards)
    groups = sample_groups(shared, [Request(s) for s in samples], purpose="difficulty", label="Estimating difficulty")
    if ledger.shard.is_part:
        startup = sampler.startup_seconds - startup
        return ledger.finish_share(key, time.perf_counter() - started - startup, startup)

    means = [normalised_mean(_rewards(group), most) for group, most in zip(groups, largest, strict=True)]
    old = artifacts.read_buffer(store.get(buffer))
    reference = reference_reward(
        [entry.mean_reward for entry in old], means, settings.difficulty_reference, settings.absolute_reference
    )
    rows = [
        Difficulty(sample_id=g.sample_id, mean_reward=mean, delta=delta(reference, mean), all_equal=zero_std(g))
        for g, mean in zip(groups, means, strict=True)
    ]
    new = [
        artifacts.BufferEntry(sample_id=row.sample_id, round=context.round, mean_reward=row.mean_reward) for row in rows
    ]
    kept = updated_buffer(old, new, settings.replay_window)
    files = {artifacts.DIFFICULTY: artifacts.to_lines(rows), artifacts.GROUPS: groups_to_parquet(groups)}
    startup = sampler.startup_seconds - startup
    return ledger.finish(
        key,
        Outputs(
            artifacts={
                "difficulty": artifacts.put_files(store, "difficulty", files, {"samples": len(rows)}),
                "buffer": artifacts.put_files(
                    store, "buffer", {artifacts.BUFFER: artifacts.to_lines(kept)}, {"samples": len(kept)}
                ),
            },
            results=_results(samples, groups, rows, reference, len(old), len(kept)),
            seconds=time.perf_counter() - started - startup,
            startup_seconds=startup,
        ),
    )


def _rewards(group: Group) -> list[float]:
    return [response.reward for response in group.responses]


def _results(
    samples: Sequence[Sample],
    groups: Sequence[Group],
    rows: Sequence[Difficulty],
    reference: float,
    buffer_before: int,
    buffer_after: int,
) -> dict[str, object]:
    deltas = [row.delta for row in rows]
    pairs = [(s, r.text) for s, group in zip(samples, groups, strict=True) for r in group.responses]
    return {
        **reward_metrics(groups),
        **completion_metrics(groups),
        "samples": len(rows),
        "responses": len(pairs),
        "format_rate": float(np.mean([is_well_formed(text) for _, text in pairs])),
        "accuracy_rate": float(np.mean([is_right(sample, text) for sample, text in pairs])),
        "difficulty/reference": reference,
        "difficulty/mean_delta": float(np.mean(deltas)),
        "difficulty/mean_abs_delta": float(np.mean(np.abs(deltas))),
        "difficulty/hard": sum(value > 0 for value in deltas),
        "difficulty/easy": sum(value < 0 for value in deltas),
        "difficulty/buffer_before": buffer_before,
        "difficulty/buffer_after": buffer_after,
        "difficulty_histogram": {
            "edges": [round(float(edge), 6) for edge in _BINS],
            "counts": np.histogram(np.clip(deltas, -1, 1), _BINS)[0].tolist(),
        },
    }
