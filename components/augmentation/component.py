"""KFP face of augmentation."""

from kfp import dsl

from components.shared.face import step_component


@step_component("generation")
def augment_prompts(
    context: str,
    settings: str,
    round_index: int,
    dataset: dsl.Input[dsl.Dataset],
    policy: dsl.Input[dsl.Model],
    difficulty: dsl.Input[dsl.Dataset],
    state: dsl.Input[dsl.Artifact],
    reports: dsl.Input[dsl.Artifact],
    augmentation: dsl.Output[dsl.Dataset],
    new_reports: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
):
    """Give hard samples a hint and easy ones noise or masked frames, each by its Delta.

    Args:
        dataset: Reference to the samples and their frames.
        policy: Reference to the current policy.
        difficulty: Reference to mean rewards, deltas and the un-augmented groups.
        state: Reference to the training state.
        augmentation: Reference to each sample's augmentation record.
    """
    from components.augmentation.settings import AugmentationSettings
    from components.augmentation.step import augment
    from components.shared.face import SamplingFace

    face = SamplingFace("augmentation", context, settings, round_index)
    outputs = augment(
        face.ref(dataset),
        face.ref(policy),
        face.ref(difficulty),
        face.ref(state),
        face.settings("augmentation", AugmentationSettings),
        face.sampler,
        face.context,
        sampling=face.sampling,
        rewards=face.rewards,
    )
    artifacts = {"augmentation": augmentation}
    face.finish(outputs, artifacts, metrics=metrics, reports=new_reports, earlier=reports)
