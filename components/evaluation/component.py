"""KFP faces of evaluation: the base, the trained policy against it, and the champion where that is another policy."""

from kfp import dsl

from components.shared.face import step_component


@step_component("generation")
def evaluate_base(
    context: str,
    settings: str,
    dataset: dsl.Input[dsl.Dataset],
    policy: dsl.Input[dsl.Model],
    reports: dsl.Input[dsl.Artifact],
    scores: dsl.Output[dsl.Dataset],
    new_reports: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
):
    """Score the base policy on every held-out level.

    Args:
        dataset: Reference to the samples and their frames.
        policy: Reference to the base policy.
        scores: Reference to the scores.
    """
    from components.evaluation.settings import EvaluationSettings
    from components.evaluation.step import evaluate
    from components.shared.face import SamplingFace

    face = SamplingFace("evaluation before", context, settings)
    asked = face.settings("evaluation", EvaluationSettings)
    outputs = evaluate(face.ref(dataset), face.ref(policy), asked, face.sampler, face.context, label="before")
    face.finish(outputs, {"scores": scores}, metrics=metrics, reports=new_reports, earlier=reports)


@step_component("generation")
def evaluate_trained(
    context: str,
    settings: str,
    dataset: dsl.Input[dsl.Dataset],
    policy: dsl.Input[dsl.Model],
    baseline: dsl.Input[dsl.Dataset],
    reports: dsl.Input[dsl.Artifact],
    scores: dsl.Output[dsl.Dataset],
    new_reports: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
):
    """Score the trained policy on the same questions, and compare it with the base question by question.

    Args:
        dataset: Reference to the samples and their frames.
        policy: Reference to the trained policy.
        baseline: Reference to the base policy's scores.
        scores: Reference to the scores, paired differences and flips.
    """
    from components.evaluation.settings import EvaluationSettings
    from components.evaluation.step import evaluate
    from components.shared.face import SamplingFace

    face = SamplingFace("evaluation after", context, settings)
    asked = face.settings("evaluation", EvaluationSettings)
    outputs = evaluate(
        face.ref(dataset), face.ref(policy), asked, face.sampler, face.context, face.ref(baseline), label="after"
    )
    face.finish(outputs, {"scores": scores}, metrics=metrics, reports=new_reports, earlier=reports)


@step_component("generation")
def evaluate_champion(
    context: str,
    settings: str,
    champion: str,
    dataset: dsl.Input[dsl.Dataset],
    base: dsl.Input[dsl.Model],
    scores_base: dsl.Input[dsl.Dataset],
    reports: dsl.Input[dsl.Artifact],
    scores: dsl.Output[dsl.Dataset],
    new_reports: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
):
    """Score the current champion on the promotion split. Where it is the base policy, or there is none, the base's scores stand.

    Args:
        champion: The champion's record in the registry, as JSON; empty if there is none.
        dataset: Reference to the samples and their frames.
        base: Reference to the base policy.
        scores_base: Reference to the base policy's scores.
        scores: Reference to the champion's scores.
    """
    from components.evaluation.champion import evaluate_rival
    from components.evaluation.settings import EvaluationSettings
    from components.promotion.settings import PromotionSettings
    from components.shared.face import SamplingFace

    face = SamplingFace("evaluation of champion", context, settings)
    asked = face.settings("evaluation", EvaluationSettings)
    split = face.settings("promotion", PromotionSettings).promotion_split
    outputs = evaluate_rival(
        champion, face.ref(dataset), face.ref(base), face.ref(scores_base), split, asked, face.sampler, face.context
    )
    face.finish(outputs, {"scores": scores}, metrics=metrics, reports=new_reports, earlier=reports)
