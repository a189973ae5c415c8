"""The augmentation step: what the policy is shown of each sample of the round."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from components.augmentation.hints import Hint, TokenEnds, make_hint
from components.augmentation.levels import hint_fraction, mask_fraction, noise_std, planned_kind
from components.augmentation.masking import masked_frames
from components.augmentation.settings import AugmentationSettings
from components.shared.context import StepContext, derived_seed, generator
from components.shared.dataset import DatasetReader, add_noise, frames_digest, mask_frames
from components.shared.generation import Sampler
from components.shared.ledger import Outputs
from components.shared.rewards import RewardSettings, check_rewards
from components.shared.rewards.accuracy import is_right
from components.shared.rewards.answers import answer_in_words
from components.shared.sampling import artifacts
from components.shared.sampling.groups import Request, Sampling, sample_groups
from components.shared.sampling.keys import sampling_key
from components.shared.sampling.settings import SamplingSettings
from components.shared.sampling.tokens import load_tokenizer
from components.shared.schemas import ArtifactRef, Augmentation, Difficulty, Group, Sample


def augment(
    dataset: ArtifactRef,
    policy: ArtifactRef,
    difficulty: ArtifactRef,
    state: ArtifactRef,
    settings: AugmentationSettings,
    sampler: Sampler,
    context: StepContext,
    *,
    sampling: SamplingSettings,
    rewards: RewardSettings,
) -> Outputs:
    """Artifact `augmentation`: one AugmentedSample a sample, in the round's order.

    A shard leaves its share of the responses to the step that merges them, and no artifacts.

    Raises ValueError before any sampling if a reward cannot be used.
    """
    store, ledger = context.open_store(), context.open_ledger()
    if reason := artifacts.stop_reason(state):
        files = {artifacts.AUGMENTATION: b""}
        empty = artifacts.put_files(store, "augmentation", files, {"skipped": reason})
        return artifacts.skipped(reason, {"augmentation": empty})
    check_rewards(rewards.reward_funcs, rewards.reward_weights)
    inputs = {"dataset": dataset, "policy": policy, "difficulty": difficulty}
    key = sampling_key(ledger, "augmentation", inputs, context, settings, sampler, sampling, rewards)
    if done := ledger.finished(key):
        return done
    started, startup = time.perf_counter(), sampler.startup_seconds
    reader = DatasetReader(store.get(dataset))
    rows = artifacts.read_difficulty(store.get(difficulty))
    planned = {row.sample_id: planned_kind(row.delta, settings) for row in rows}

    hard = [reader.sample(name) for name, kind in planned.items() if kind == "hint"]
    requests = [Request(sample, given_answer=answer_in_words(sample)) for sample in hard]
    shared = Sampling(context, ledger, key, policy, reader, sampler, sampling, rewards)
    explanations = sample_groups(
        shared, requests, purpose="hint", label="Explaining hard samples", n=settings.hint_generations
    )
    if ledger.shard.is_part:
        startup = sampler.startup_seconds - startup
        return ledger.finish_share(key, time.perf_counter() - started - startup, startup)
    explained = {group.sample_id: group for group in explanations}
    hints = _hints(rows, explained, reader, settings, _token_ends(shared)) if explained else {}
    done_to = []
    for row in rows:
        augmentation = Augmentation(delta=row.delta)
        if planned[row.sample_id] == "hint":
            augmentation = _hinted(row, hints[row.sample_id], settings)
        elif planned[row.sample_id] == "noise":
            augmentation = _noised(row, reader, settings, context)
        elif planned[row.sample_id] == "mask":
            augmentation = _masked(row, reader, settings, context)
        done_to.append(artifacts.AugmentedSample(sample_id=row.sample_id, augmentation=augmentation))
    artifact = artifacts.put_files(
        store, "augmentation", {artifacts.AUGMENTATION: artifacts.to_lines(done_to)}, {"samples": len(done_to)}
    )
    startup = sampler.startup_seconds - startup
    return ledger.finish(
        key,
        Outputs(
            artifacts={"augmentation": artifact},
            results=_results(done_to, hints, explained, {sample.id: sample for sample in hard}),
            seconds=time.perf_counter() - started - startup,
            startup_seconds=startup,
        ),
    )


def _token_ends(sampling: Sampling) -> TokenEnds:
    tokenizer = load_tokenizer(sampling.context.open_store().get(sampling.policy))
    return lambda text: [end for _, end in tokenizer.encode(text, add_special_tokens=False).offsets]


def _hints(
    rows: Sequence[Difficulty],
    explained: Mapping[str, Group],
    reader: DatasetReader,
    settings: AugmentationSettings,
    token_ends: TokenEnds,
) -> dict[str, Hint]:
    return {
        row.sample_id: make_hint(
            reader.sample(row.sample_id),
            explained[row.sample_id].responses,
            hint_fraction(row.delta, settings),
            reader.max_hint_tokens(),
            token_ends,
        )
        for row in rows
        if row.sample_id in explained
    }


def _hinted(row: Difficulty, hint: Hint, settings: AugmentationSettings) -> Augmentation:
    if not hint.text:
        return Augmentation(delta=row.delta, reason=hint.reason)
    return Augmentation(kind="hint", delta=row.delta, level=hint_fraction(row.delta, settings), hint=hint.text)


def _noised(
    row: Difficulty, reader: DatasetReader, settings: AugmentationSettings, context: StepContext
) -> Augmentation:
    level = noise_std(row.delta, settings)
    if level == 0:
        return Augmentation(delta=row.delta, reason="noise level 0")
    seed = derived_seed(context.seed, context.round, row.sample_id, "noise")
    noised = add_noise(reader.frames(reader.sample(row.sample_id).video), level, seed)
    return Augmentation(
        kind="noise", delta=row.delta, level=level, noise_seed=seed, frames_digest=frames_digest(noised)
    )


def _masked(
    row: Difficulty, reader: DatasetReader, settings: AugmentationSettings, context: StepContext
) -> Augmentation:
    level = mask_fraction(row.delta, settings)
    if level == 0:
        return Augmentation(delta=row.delta, reason="mask level 0")
    frames = reader.frames(reader.sample(row.sample_id).video)
    masked = masked_frames(len(frames), level, generator(context.seed, context.round, row.sample_id, "mask"))
    if not masked:
        return Augmentation(delta=row.delta, reason="too short to mask")
    digest = frames_digest(mask_frames(frames, masked))
    return Augmentation(kind="mask", delta=row.delta, level=level, masked_frames=masked, frames_digest=digest)


def _results(
    rows: Sequence[artifacts.AugmentedSample],
    hints: Mapping[str, Hint],
    explained: Mapping[str, Group],
    hard: Mapping[str, Sample],
) -> dict[str, object]:
    kinds = Counter(row.augmentation.kind for row in rows)
    reasons = Counter(row.augmentation.reason for row in rows if row.augmentation.reason)
    results: dict[str, object] = {
        "samples": len(rows),
        "augmented/none": kinds["none"],
        "augmented/hint": kinds["hint"],
        "augmented/noise": kinds["noise"],
        "augmented/mask": kinds["mask"],
        "augmented/responses_sampled": sum(len(group.responses) for group in explained.values()),
        "not_augmented_reasons": dict(sorted(reasons.items())),
    }
    levels = {k: [r.augmentation.level for r in rows if r.augmentation.kind == k] for k in ("hint", "noise", "mask")}
    if levels["hint"]:
        results["augmented/hint_fraction_mean"] = float(np.mean(levels["hint"]))
        results["augmented/hint_tokens_mean"] = float(np.mean([hint.tokens for hint in hints.values() if hint.text]))
    if levels["noise"]:
        results["augmented/noise_std_mean"] = float(np.mean(levels["noise"]))
    if levels["mask"]:
        masked = [len(row.augmentation.masked_frames) for row in rows if row.augmentation.kind == "mask"]
        results["augmented/mask_fraction_mean"] = float(np.mean(levels["mask"]))
        results["augmented/masked_frames_mean"] = float(np.mean(masked))
    if explained:
        right = [is_right(hard[name], r.text) for name, group in explained.items() for r in group.responses]
        results["augmented/given_answer_accuracy_rate"] = float(np.mean(right))
    return results
