"""The training step: a round's groups become the next policy and training state."""

from __future__ import annotations

import time

from components.shared.context import StepContext
from components.shared.groups import groups_from_parquet
from components.shared.ledger import Outputs
from components.shared.sampling.artifacts import GROUPS, skipped, stop_reason
from components.shared.schemas import ArtifactRef
from components.shared.store import Store
from components.training.checkpoint import drop_checkpoint
from components.training.checks import check_adapter, check_groups, check_sampled_by
from components.training.launch import train_here
from components.training.results import round_results
from components.training.settings import TrainingSettings
from components.training.spec import Work
from components.training.state import PROGRESS, Adapter, Progress
from components.training.trainjob.nodes import Nodes
from components.training.trainjob.run import train_on_nodes


def train(
    dataset: ArtifactRef,
    policy: ArtifactRef,
    reference: ArtifactRef,
    groups: ArtifactRef,
    state: ArtifactRef,
    settings: TrainingSettings,
    context: StepContext,
    nodes: Nodes | None = None,
) -> Outputs:
    """Train one round. Artifacts: `policy`, `state`; results: the round's metrics, `series` with a value a step.

    It is trained by processes of this machine or, as a TrainJob, on the `nodes`. A run that a stop rule ended, and a round
    without groups, hand policy and state on unchanged. Raises ValueError on groups, a state or settings that do not fit,
    ChildFailed if a training process fails, and TrainJobError if a TrainJob does; called again after that or after a kill,
    it goes on from its last checkpoint.
    """
    started = time.monotonic()
    unchanged = {"policy": policy, "state": state}
    if reason := stop_reason(state):
        return skipped(reason, unchanged)
    store, ledger = context.open_store(), context.open_ledger()
    inputs = {"dataset": dataset.digest, "policy": policy.digest, "groups": groups.digest, "state": state.digest}
    adapter = Adapter.of(settings, reference.digest)
    if settings.needs_reference or adapter:
        inputs["reference"] = reference.digest
    key = ledger.key("training", inputs, {**settings.model_dump(mode="json"), "round": context.round}, context.seed)
    if done := ledger.finished(key):
        return done
    groups_file = store.get(groups) / GROUPS
    found = groups_from_parquet(groups_file.read_bytes())
    if not found:
        return ledger.finish(key, skipped("the round has no groups", unchanged))
    check_groups(found, groups_file, settings.declared.smallest_group)
    check_sampled_by(groups, reference, settings.objective)

    before = _progress(store, state)
    if before.policy and before.policy != policy.digest:
        raise ValueError(
            f"state {state.digest[:12]} belongs to policy {before.policy[:12]}, not to {policy.digest[:12]}: hand in"
            " the policy that came out of training together with this state, or a new state"
        )
    check_adapter(state, before, adapter, policy, reference)
    work = Work(
        settings=settings,
        context=context,
        key=key,
        dataset=dataset,
        policy=policy,
        base=reference if adapter else None,
        adapter=adapter,
        reference=reference if settings.needs_reference else None,
        groups=groups,
        state=state,
        noted={"round": context.round},
    )
    trained = train_on_nodes(work, nodes) if nodes else train_here(work)
    drop_checkpoint(store, key)
    return ledger.finish(
        key,
        Outputs(
            artifacts=trained.artifacts,
            results=round_results(found, trained.report, trained.stop_reason),
            seconds=time.monotonic() - started - trained.report.startup_seconds,
            startup_seconds=trained.report.startup_seconds,
        ),
    )


def _progress(store: Store, state: ArtifactRef) -> Progress:
    """The state's progress, read without the moments that lie beside it: where nodes train, they are not needed here."""
    name = f"{state.kind}/{state.digest}"
    raw = store.read_object(f"{name}/{PROGRESS}") if PROGRESS in store.files_of(name) else None
    return Progress.model_validate_json(raw) if raw else Progress()
