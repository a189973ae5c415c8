"""KFP face of promotion."""

from kfp import dsl

from components.shared.face import step_component


@step_component("light")
def promote_policy(
    context: str,
    settings: str,
    champion: str,
    dataset: dsl.Input[dsl.Dataset],
    base: dsl.Input[dsl.Model],
    candidate: dsl.Input[dsl.Model],
    scores_before: dsl.Input[dsl.Dataset],
    scores_after: dsl.Input[dsl.Dataset],
    scores_champion: dsl.Input[dsl.Dataset],
    reports: dsl.Input[dsl.Artifact],
    new_reports: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
):
    """Register the trained policy, and make it the champion if it is better than the current one beyond doubt.

    Args:
        champion: The champion's record in the registry, as JSON; empty if there is none.
        dataset: Reference to the samples and their frames.
        base: Reference to the base policy.
        candidate: Reference to the trained policy.
        scores_before: Reference to the base policy's scores.
        scores_after: Reference to the trained policy's scores.
        scores_champion: Reference to the champion's scores.
    """
    from components.promotion.settings import PromotionSettings
    from components.promotion.step import promote
    from components.shared.face import StepFace

    face = StepFace("promotion", context, settings)
    outputs = promote(
        face.ref(dataset),
        face.ref(base),
        face.ref(candidate),
        face.ref(scores_before),
        face.ref(scores_after),
        face.settings("promotion", PromotionSettings),
        face.context,
        champion=champion,
        scores_champion=face.ref(scores_champion),
    )
    face.finish(outputs, {}, metrics=metrics, reports=new_reports, earlier=reports)
