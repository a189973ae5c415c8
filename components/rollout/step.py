"""The rollout step: the round's groups, sampled again where a sample was augmented, reused where it was not."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from components.rollout.examples import example_rollouts
from components.rollout.permutation import with_permuted_rewards
from components.rollout.settings import RolloutSettings
from components.shared.context import StepContext
from components.shared.dataset import DatasetReader
from components.shared.generation import Sampler
from components.shared.groups import groups_to_parquet
from components.shared.ledger import Outputs
from components.shared.rewards import RewardSettings, check_rewards
from components.shared.sampling import artifacts
from components.shared.sampling.groups import Request, Sampling, sample_groups
from components.shared.sampling.keys import sampling_key
from components.shared.sampling.metrics import (
    completion_metrics,
    frac_reward_zero_std,
    mean_reward,
    reward_metrics,
    zero_std,
)
from components.shared.sampling.settings import SamplingSettings
from components.shared.schemas import ArtifactRef, Group


def roll_out(
    dataset: ArtifactRef,
    policy: ArtifactRef,
    difficulty: ArtifactRef,
    augmentation: ArtifactRef,
    state: ArtifactRef,
    settings: RolloutSettings,
    sampler: Sampler,
    context: StepContext,
    *,
    sampling: SamplingSettings,
    rewards: RewardSettings,
) -> Outputs:
    """Artifact `groups`: the scored groups to train on, in the round's order.

    An un-augmented sample's group is the one that difficulty sampled. With `mix_original` an augmented sample's
    un-augmented group stands before its augmented one. A shard leaves its share of what is sampled again to the step that
    merges them, and no artifacts. Raises ValueError before any sampling if the inputs are of
    different rounds, or a reward cannot be used.
    """
    store, ledger = context.open_store(), context.open_ledger()
    if reason := artifacts.stop_reason(state):
        empty = artifacts.put_files(store, "groups", {artifacts.GROUPS: groups_to_parquet([])}, {"skipped": reason})
        return artifacts.skipped(reason, {"groups": empty})
    check_rewards(rewards.reward_funcs, rewards.reward_weights)
    inputs = {"dataset": dataset, "policy": policy, "difficulty": difficulty, "augmentation": augmentation}
    key = sampling_key(ledger, "rollout", inputs, context, settings, sampler, sampling, rewards)
    if done := ledger.finished(key):
        return done
    started, startup = time.perf_counter(), sampler.startup_seconds
    reader = DatasetReader(store.get(dataset))
    rows = artifacts.read_augmentation(store.get(augmentation))
    before = {group.sample_id: group for group in artifacts.read_groups(store.get(difficulty))}
    artifacts.check_same_order({"augmentation": [row.sample_id for row in rows], "difficulty": list(before)})

    augmented = [row for row in rows if row.augmentation.kind != "none"]
    requests = [Request(reader.sample(row.sample_id), row.augmentation) for row in augmented]
    shared = Sampling(context, ledger, key, policy, reader, sampler, sampling, rewards)
    sampled = sample_groups(shared, requests, purpose="rollout", label="Sampling augmented prompts")
    if ledger.shard.is_part:
        startup = sampler.startup_seconds - startup
        return ledger.finish_share(key, time.perf_counter() - started - startup, startup)
    again = {group.sample_id: group for group in sampled}
    groups: list[Group] = []
    for row in rows:
        if row.sample_id not in again:
            groups.append(before[row.sample_id].model_copy(update={"augmentation": row.augmentation}))
            continue
        if settings.mix_original:
            groups.append(before[row.sample_id])
        groups.append(again[row.sample_id])
    if settings.permute_rewards:
        groups = [with_permuted_rewards(group, context.seed) for group in groups]
    files = {artifacts.GROUPS: groups_to_parquet(groups)}
    artifact = artifacts.put_files(store, "groups", files, {"groups": len(groups), "policy": policy.digest})
    startup = sampler.startup_seconds - startup
    return ledger.finish(
        key,
        Outputs(
            artifacts={"groups": artifact},
            results=_results(groups, before, again, reader),
            seconds=time.perf_counter() - started - startup,
            startup_seconds=startup,
        ),
    )


def _results(
    groups: Sequence[Group], before: Mapping[str, Group], again: Mapping[str, Group], reader: DatasetReader
) -> dict[str, object]:
    kinds = Counter(group.augmentation.kind for group in groups)
    results: dict[str, object] = {
        **reward_metrics(groups),
        **completion_metrics(groups),
        "frac_reward_zero_std_unaugmented": frac_reward_zero_std(list(before.values())),
        "groups": len(groups),
        "groups/none": kinds["none"],
        "groups/hint": kinds["hint"],
        "groups/noise": kinds["noise"],
        "groups/mask": kinds["mask"],
        "responses_sampled": sum(len(group.responses) for group in again.values()),
        "paired_all_equal": [_pair(before[name], group) for name, group in again.items()],
        "examples": example_rollouts(groups, before, reader),
    }
    for kind in ("hint", "noise", "mask"):
        after = [group for group in again.values() if group.augmentation.kind == kind]
        if not after:
            continue
        same = [before[group.sample_id] for group in after]
        for name, these in (("before", same), ("after", after)):
            results[f"{kind}/frac_reward_zero_std_{name}"] = frac_reward_zero_std(these)
            results[f"{kind}/reward_{name}"] = math.fsum(map(mean_reward, these)) / len(these)
    return results


def _pair(before: Group, after: Group) -> dict[str, object]:
    """Whether an augmented sample's rewards were all equal without and with its augmentation."""
    return {
        "sample_id": after.sample_id,
        "kind": after.augmentation.kind,
        "before": zero_std(before),
        "after": zero_std(after),
    }
