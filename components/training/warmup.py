"""The warm-up step: the base model learns given responses before the first round (the paper's SFT baseline).

It is a round of training whose groups are targets and whose objective is their likelihood: the same workers, packing,
ranks, checkpoints and proof of the frozen weights.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from components.shared.context import StepContext
from components.shared.dataset import DatasetReader
from components.shared.groups import groups_to_parquet
from components.shared.ledger import Outputs
from components.shared.policy_inputs import load_processor
from components.shared.progress import progress
from components.shared.sampling.artifacts import GROUPS, put_files
from components.shared.schemas import TRAIN_SPLIT, ArtifactRef
from components.training.checkpoint import drop_checkpoint
from components.training.launch import train_here
from components.training.settings import TrainingSettings
from components.training.spec import Report, Work
from components.training.state import Adapter
from components.training.targets import Targets, make_targets
from components.training.trainjob.nodes import Nodes
from components.training.trainjob.run import train_on_nodes
from components.training.warmup_settings import WarmupSettings, supervised

STEP = "warmup"
_MEASURED = ("step", "loss", "entropy", "grad_norm", "learning_rate", "skipped", "step_time", "num_tokens")


def warm_up(
    dataset: ArtifactRef,
    policy: ArtifactRef,
    settings: WarmupSettings,
    training: TrainingSettings,
    context: StepContext,
    nodes: Nodes | None = None,
) -> Outputs:
    """Artifacts: `policy`, and the `targets` it learns, as groups.

    Results: counts of targets, `loss_first_epoch` and `loss_last_epoch` (nats a token), `steps`.

    The optimizer, ranks, memory and `nodes` are `training`'s. Adam's state is not handed on: the rounds start their own.
    Raises ValueError if no sample of the train split has a target, ChildFailed if a training process fails, and
    TrainJobError if a TrainJob does; called again after that or after a kill, it goes on from its last checkpoint.
    """
    started = time.monotonic()
    store, ledger = context.open_store(), context.open_ledger()
    told = {**settings.model_dump(mode="json"), "training": supervised(settings, training, 1).model_dump(mode="json")}
    key = ledger.key(STEP, {"dataset": dataset.digest, "policy": policy.digest}, told, context.seed)
    if done := ledger.finished(key):
        return done
    targets = _targets(DatasetReader(store.get(dataset)), store.get(policy), dataset, settings)
    settings_of_workers = supervised(settings, training, len(targets.groups))
    adapter = Adapter.of(settings_of_workers, policy.digest)
    work = Work(
        settings=settings_of_workers,
        context=context,
        key=key,
        dataset=dataset,
        policy=policy,
        base=policy if adapter else None,
        adapter=adapter,
        reference=None,
        groups=put_files(store, "groups", {GROUPS: groups_to_parquet(targets.groups)}),
        state=None,
        noted={"warmup": settings.num_train_epochs},
    )
    trained = train_on_nodes(work, nodes) if nodes else train_here(work)
    drop_checkpoint(store, key)
    return ledger.finish(
        key,
        Outputs(
            artifacts={**trained.artifacts, "targets": work.groups},
            results=_results(targets, trained.report, settings.num_train_epochs),
            seconds=time.monotonic() - started - trained.report.startup_seconds,
            startup_seconds=trained.report.startup_seconds,
        ),
    )


def _targets(reader: DatasetReader, policy: Path, dataset: ArtifactRef, settings: WarmupSettings) -> Targets:
    total = len(reader.samples(TRAIN_SPLIT))
    with progress("Reading targets", total=total, unit="samples") as advance:
        found = make_targets(reader, load_processor(policy), settings.target, settings.max_completion_length, advance)
    if not found.groups:
        raise ValueError(
            f"dataset {dataset.digest[:12]}: no target for warmup.target {settings.target}: of {total} samples of the split"
            f" {TRAIN_SPLIT}, {found.without} have no `response` and {found.too_long} have more than"
            f" warmup.max_completion_length {settings.max_completion_length} tokens; add `response` to the annotations, set"
            " warmup.target to response_or_answer, or raise warmup.max_completion_length"
        )
    return found


def _results(targets: Targets, report: Report, epochs: int) -> dict[str, object]:
    rows = [{name: row[name] for name in _MEASURED} for row in report.metrics]
    batches = len(rows) // epochs
    return {
        "samples": len(targets.groups),
        "targets/response": targets.responses,
        "targets/answer": len(targets.groups) - targets.responses,
        "samples_without_target": targets.without,
        "samples_too_long": targets.too_long,
        "num_train_epochs": epochs,
        "optimizer_steps": len(rows) - report.skipped_steps,
        "skipped_steps": report.skipped_steps,
        "loss_first_epoch": _mean([row["loss"] for row in rows[:batches]]),
        "loss_last_epoch": _mean([row["loss"] for row in rows[-batches:]]),
        "frozen_tensors_verified": report.frozen_tensors,
        "engines": report.engines,
        "steps": rows,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return fmean(defined) if defined else None
