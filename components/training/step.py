"""The training step: a round's groups become the next policy and training state."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from components.shared.context import StepContext
from components.shared.groups import groups_from_parquet
from components.shared.ledger import Outputs
from components.shared.sampling.artifacts import GROUPS, skipped, stop_reason
from components.shared.schemas import ArtifactRef
from components.training.checkpoint import drop_checkpoint
from components.training.checks import check_adapter, check_groups, check_sampled_by
from components.training.launch import launch
from components.training.results import round_results
from components.training.settings import TrainingSettings
from components.training.spec import POLICY, STATE, WorkerSpec
from components.training.state import Adapter, read_progress, write_progress


def train(
    dataset: ArtifactRef,
    policy: ArtifactRef,
    reference: ArtifactRef,
    groups: ArtifactRef,
    state: ArtifactRef,
    settings: TrainingSettings,
    context: StepContext,
) -> Outputs:
    """Train one round. Artifacts: `policy`, `state`; results: the round's metrics, `series` with a value a step.

    A run that a stop rule ended, and a round without groups, hand policy and state on unchanged. Raises ValueError on
    groups, a state or settings that do not fit, and ChildFailed if a training process fails; called again after that
    or after a kill, it goes on from its last checkpoint.
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

    state_folder = store.get(state)
    before = read_progress(state_folder)
    if before.policy and before.policy != policy.digest:
        raise ValueError(
            f"state {state.digest[:12]} belongs to policy {before.policy[:12]}, not to {policy.digest[:12]}: hand in"
            " the policy that came out of training together with this state, or a new state"
        )
    check_adapter(state, before, adapter, policy, reference)
    with tempfile.TemporaryDirectory(prefix="deepvideo-training-", ignore_cleanup_errors=True) as scratch:
        work = Path(scratch)
        output = work / "output"
        output.mkdir()
        report = launch(
            WorkerSpec(
                settings=settings,
                context=context,
                key=key,
                dataset=store.get(dataset),
                policy=store.get(policy),
                base=store.get(reference) if adapter else None,
                adapter=adapter,
                reference=store.get(reference) if settings.needs_reference else None,
                groups=groups_file,
                state=state_folder,
                output=output,
            ),
            work,
        )
        about = {**policy.metadata, "round": context.round}
        new_policy = store.put(output / POLICY, "policy", about)
        progress = read_progress(output / STATE).model_copy(update={"policy": new_policy.digest})
        write_progress(output / STATE, progress)
        about = {"round": context.round, "global_step": progress.global_step, "stop_reason": progress.stop_reason}
        new_state = store.put(output / STATE, "state", about)
    drop_checkpoint(store, key)
    return ledger.finish(
        key,
        Outputs(
            artifacts={"policy": new_policy, "state": new_state},
            results=round_results(found, report, progress.stop_reason),
            seconds=time.monotonic() - started - report.startup_seconds,
            startup_seconds=report.startup_seconds,
        ),
    )
