"""The promotion step: register the candidate, and make it the champion if it is better beyond doubt."""

from __future__ import annotations

import time

from components.promotion.settings import PromotionSettings
from components.shared.context import StepContext
from components.shared.ledger import Outputs, code_version
from components.shared.schemas import ArtifactRef
from components.shared.tracking.registry import CHALLENGED_TAG, Champion, RegistryError


def promote(
    dataset: ArtifactRef,
    base: ArtifactRef,
    candidate: ArtifactRef,
    scores_before: ArtifactRef,
    scores_after: ArtifactRef,
    settings: PromotionSettings,
    context: StepContext,
    champion: str = "",
    scores_champion: ArtifactRef | None = None,
) -> Outputs:
    """Compare the candidate with the champion, register it, and move the alias if nothing objects.

    `champion` is the one that was resolved when the run began, as JSON, empty if there was none: then the base policy
    stands in. `scores_champion` are its scores, at least on the promotion split; without them it must be the base.
    `results`: promoted, reason (what decided), reasons (every comparison), difference, low, high (shares), version.

    Raises ValueError if scores are of other policies or over other questions, and RegistryError if the registry cannot
    be written: the step is not finished then, and a rerun goes on.
    """
    started = time.monotonic()
    store, ledger = context.open_store(), context.open_ledger()
    refs = {"dataset": dataset, "base": base, "candidate": candidate, "before": scores_before, "after": scores_after}
    if scores_champion:
        refs["scores_champion"] = scores_champion
    where = {"champion": champion, "run": context.run_name, "registry": context.tracking_uri}
    digests = {name: ref.digest for name, ref in refs.items()}
    key = ledger.key("promotion", digests, settings.model_dump(mode="json") | where, context.seed)
    if done := ledger.finished(key):
        return done

    from components.promotion.gate import judge
    from components.shared.scores import read_answers

    current = Champion.model_validate_json(champion) if champion else None
    expected = current.version if current else ""
    rival_scores = scores_champion or scores_before
    _check_policy(scores_before, base, context, "scores_before")
    _check_policy(scores_after, candidate, context, "scores_after")
    _check_policy(rival_scores, current.policy if current else base, context, "scores_champion")
    verdict = judge(
        read_answers(store.get(scores_after)),
        read_answers(store.get(rival_scores)),
        read_answers(store.get(scores_before)),
        settings,
        context.seed,
        rival=f"champion version {expected}" if expected else "the base policy, as there is no champion",
    )
    objections = list(verdict.objections)
    version, holder = "", ""
    if context.tracking_uri:
        lineage = {
            "deepvideo.dataset": dataset.digest,
            "deepvideo.base": base.digest,
            "deepvideo.code": code_version(),
            "deepvideo.promotion": key,
        }
        if expected:
            lineage[CHALLENGED_TAG] = expected
        version, holder = _write(candidate, lineage, settings, context, expected, passed=not objections)
        if not objections and holder != version:
            was, now = (f"version {number}" if number else "nothing" for number in (expected, holder))
            objections.append(f"alias {settings.alias!r} pointed to {was} when the run began, and to {now} at its end")
    else:
        objections.append("there is no tracking URI, and so no registry")
    promoted = not objections
    results: dict[str, object] = {
        "promoted": promoted,
        "reason": "; ".join(verdict.support if promoted else objections),
        "reasons": [*objections, *verdict.support],
        "difference": verdict.difference.value,
        "low": verdict.difference.low,
        "high": verdict.difference.high,
        "registered_model": settings.registered_model,
        "alias": settings.alias,
        "version": version,
        "champion_before": expected,
    }
    return ledger.finish(key, Outputs(results=results, seconds=time.monotonic() - started))


def _write(
    candidate: ArtifactRef,
    lineage: dict[str, str],
    settings: PromotionSettings,
    context: StepContext,
    expected: str,
    *,
    passed: bool,
) -> tuple[str, str]:
    """Register the candidate and, if it passed, move the alias. Returns its version and the one that the alias has."""
    from components.promotion.registry import move_alias, register
    from components.shared.tracking.client import open_client, with_retries
    from components.shared.tracking.runs import find_parent

    name, alias = settings.registered_model, settings.alias

    def write() -> tuple[str, str]:
        client = open_client(context.tracking_uri)
        run_id = find_parent(client, context)
        version = register(client, name, candidate, context.run_name, lineage, run_id)
        return version, move_alias(client, name, alias, expected, version) if passed else ""

    try:
        return with_retries(write)
    except Exception as error:
        raise RegistryError(
            f"MLflow's registry at {context.tracking_uri} cannot be written: {error}; rerun when it can"
        ) from error


def _check_policy(scores: ArtifactRef, policy: ArtifactRef, context: StepContext, name: str) -> None:
    from components.shared.scores import read_figures

    scored = read_figures(context.open_store().get(scores))["policy"]
    if scored != policy.digest:
        raise ValueError(
            f"{name}: scores of policy {str(scored)[:12]}, expected those of {policy.digest[:12]}; evaluate that policy"
        )
