"""Scores of the registry's champion, where it is another policy than the run's base."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from components.evaluation.settings import EvaluationSettings
from components.evaluation.step import evaluate
from components.shared.context import StepContext
from components.shared.generation import Sampler
from components.shared.ledger import Outputs
from components.shared.schemas import ArtifactRef
from components.shared.store import StoreError, open_store
from components.shared.tracking.registry import Champion


def evaluate_rival(
    champion: str,
    dataset: ArtifactRef,
    base: ArtifactRef,
    scores_base: ArtifactRef,
    promotion_split: str,
    settings: EvaluationSettings,
    sampler: Sampler,
    context: StepContext,
) -> Outputs:
    """The champion's scores on the promotion split; where it is the base, or there is none, the base's scores.

    `champion` is a Champion as JSON, empty if there is none. Raises StoreError if its policy is in no store any more.
    """
    if not champion:
        return Outputs(
            artifacts={"scores": scores_base}, results={"stood_in": "there is no champion: the base's scores"}
        )
    rival = Champion.model_validate_json(champion)
    if rival.policy.digest == base.digest:
        return Outputs(artifacts={"scores": scores_base}, results={"stood_in": "the champion is the base policy"})
    policy = _at_hand(rival, context)
    asked = settings.model_copy(update={"levels": (promotion_split,)})
    return evaluate(dataset, policy, asked, sampler, context, label="champion")


def _at_hand(rival: Champion, context: StepContext) -> ArtifactRef:
    """The champion's policy in this run's store; a run with a store of its own gets a copy."""
    store, policy = context.open_store(), rival.policy
    try:
        store.get(policy)
        return policy
    except StoreError:
        pass
    elsewhere = open_store(policy.uri.removesuffix(f"/{policy.kind}/{policy.digest}"))
    try:
        found = elsewhere.get(policy)
    except StoreError as error:
        raise StoreError(
            f"champion version {rival.version}: {error}; restore its policy, or remove the alias in MLflow's registry"
        ) from error
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "policy"
        shutil.copytree(found, copy, ignore=shutil.ignore_patterns("manifest.json"))
        return store.put(copy, policy.kind, policy.metadata)
