"""What summary.json holds: the figures of a run for programs, and which of them differ between two equal runs."""

from __future__ import annotations

import copy
from typing import Any, Literal

from pydantic import Field

from components.shared.schemas import Quarantined, Record
from components.shared.statistics import Estimate

# Paths that differ between two runs over the same inputs, settings and seed; `*` is every item of a list.
VOLATILE = (
    "run_name",
    "timings",
    "rounds.*.seconds",
    "rounds.*.startup_seconds",
    "promotion.reason",
    "promotion.reasons",
    "promotion.version",
    "promotion.champion_before",
)


def stable(summary: dict[str, Any]) -> dict[str, Any]:
    """A summary.json without what is volatile: two runs over the same inputs, settings and seed agree on the rest."""
    kept = copy.deepcopy(summary)
    for path in VOLATILE:
        _drop(kept, path.split("."))
    return kept


def _drop(value: Any, path: list[str]) -> None:
    head, *rest = path
    if head == "*":
        for item in value:
            _drop(item, rest)
    elif rest:
        _drop(value[head], rest)
    else:
        value.pop(head, None)


class DataSummary(Record):
    """What ingest kept and what it left out."""

    digest: str = Field(description="content digest of the dataset artifact")
    samples: dict[str, int] = Field(description="samples by split")
    videos: int = Field(description="videos with decoded frames")
    quarantined: tuple[Quarantined, ...] = Field(description="every row or video that was left out, and why")


class Histogram(Record):
    """Counts between edges: bin i holds values from edges[i] to edges[i + 1]."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class WarmupSummary(Record):
    """The supervised warm-up before the first round."""

    epochs: int
    samples: int = Field(description="targets that were learnt: reference responses and answers")
    answers: int = Field(description="of these, answers that stood in for a reference response")
    left_out: int = Field(description="samples without a target, or with one that is too long")
    optimizer_steps: int = Field(description="optimizer steps that were applied")
    loss_first_epoch: float | None = Field(description="nats a token, mean over the first epoch's optimizer steps")
    loss_last_epoch: float | None = Field(description="the same of the last epoch")
    policy_digest: str = Field(description="content digest of the policy that the rounds started from")


class RoundSummary(Record):
    """One round of sampling and training. A skipped round (a stop rule had fired) has `skipped` and no figures."""

    round: int = Field(description="counts from 1")
    skipped: str = Field("", description="why the round did nothing; empty if it ran")
    prompts: int = Field(0, description="samples of the round")
    accuracy_unaugmented: float | None = Field(None, description="share of right responses on the prompts as they are")
    reward: float | None = Field(None, description="mean reward of the groups that were trained on")
    rewards: dict[str, float] = Field({}, description="mean of each reward by name, over the same groups")
    reward_unaugmented: float | None = Field(None, description="mean reward on the prompts as they are")
    frac_reward_zero_std: float | None = Field(None, description="share of trained groups with all-equal rewards")
    frac_reward_zero_std_unaugmented: float | None = Field(None, description="the same on the prompts as they are")
    difficulty: Histogram | None = Field(None, description="samples by Delta, from -1 (easy) to 1 (hard)")
    augmentation: dict[str, int] = Field({}, description="samples by what was done: none, hint, noise, mask")
    unaugmented_reasons: dict[str, int] = Field(
        {}, description="samples left as they are although easy or hard, by reason"
    )
    loss: float | None = Field(None, description="mean over the round's optimizer steps")
    kl: float | None = Field(
        None, description="mean over the round's optimizer steps, against the reference policy; null without one"
    )
    optimizer_steps: int = Field(0, description="optimizer steps of the round that were applied")
    skipped_steps: int = Field(0, description="optimizer steps left out because a gradient was not finite")
    policy_digest: str = Field(description="content digest of the policy that the round left")
    seconds: dict[str, float] = Field({}, description="seconds by step, engine start-up apart")
    startup_seconds: dict[str, float] = Field({}, description="seconds of engine start-up by step")


class Compared(Record):
    """A figure before and after training; values, `low` and `high` are shares from 0 to 1, None where undefined."""

    before: Estimate
    after: Estimate
    difference: Estimate = Field(description="after - before, paired by question; interval clustered by video")


class LevelSummary(Record):
    """The scores of one level. `overall` is all held-out levels together, without the promotion split."""

    metric: str = Field(description="accuracy, mIoU, or accuracy_or_IoU for a mixture")
    questions: int
    videos: int
    gained: int = Field(description="greedy answers that turned right")
    lost: int = Field(description="greedy answers that turned wrong")
    figures: dict[str, Compared] = Field(
        description="sampled, greedy; both among the answers that could be read (_parsed), and _parse_failure"
    )


class PromotionSummary(Record):
    """What became of the candidate."""

    promoted: bool = Field(description="whether the alias now points to the candidate")
    reason: str = Field(description="what decided")
    reasons: tuple[str, ...] = Field(description="every comparison, what spoke against it first")
    difference: Estimate = Field(description="candidate - champion on the promotion split, sampled answers, a share")
    registered_model: str
    alias: str
    version: str = Field(description="the candidate's in the registry; empty if it was not registered")
    champion_before: str = Field(description="the champion's when the run began; empty if the base policy stood in")


class StepSeconds(Record):
    """The time one step took, summed over its rounds."""

    step: str
    runs: int
    seconds: float = Field(description="without engine start-up")
    startup_seconds: float


class Timings(Record):
    """Where the run's time went. Steps that an earlier run had finished count with the time they took then."""

    total_seconds: float = Field(description="sum over all steps, start-up included")
    startup_seconds: float = Field(description="engine start-ups: importing and loading vLLM, DeepSpeed, transformers")
    startup_share: float = Field(description="startup_seconds / total_seconds")
    steps: tuple[StepSeconds, ...]


class Summary(Record):
    """summary.json."""

    schema_version: Literal[1] = 1
    run_name: str
    seed: int
    settings_digest: str = Field(description="SHA-256 of the settings")
    settings: dict[str, Any] = Field(description="every setting, a section a step")
    engines: dict[str, str] = Field(description="versions of the engines that ran, by name")
    verdict: str = Field(description="the result in one or two sentences")
    data: DataSummary
    warmup: WarmupSummary | None = Field(None, description="null where no warm-up was compiled in")
    rounds: tuple[RoundSummary, ...]
    training: dict[str, list[float | None]] = Field(
        description="series over optimizer steps, one value a step: step, round, loss, kl, entropy, grad_norm, "
        "rho_std; null where it is not defined"
    )
    evaluation: dict[str, LevelSummary] = Field(description="by level")
    promotion: PromotionSummary
    base_policy_digest: str
    final_policy_digest: str
    timings: Timings
