"""KFP face of rollout."""

from kfp import dsl

from components.shared.face import step_component


@step_component("generation")
def roll_out_groups(
    context: str,
    settings: str,
    round_index: int,
    dataset: dsl.Input[dsl.Dataset],
    policy: dsl.Input[dsl.Model],
    difficulty: dsl.Input[dsl.Dataset],
    augmentation: dsl.Input[dsl.Dataset],
    state: dsl.Input[dsl.Artifact],
    reports: dsl.Input[dsl.Artifact],
    groups: dsl.Output[dsl.Dataset],
    new_reports: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
):
    """Sample and score a group of responses for every prompt of the round.

    Args:
        dataset: Reference to the samples and their frames.
        policy: Reference to the current policy.
        difficulty: Reference to mean rewards, deltas and the un-augmented groups.
        augmentation: Reference to each sample's augmentation record.
        state: Reference to the training state.
        groups: Reference to the scored groups.
    """
    from components.rollout.settings import RolloutSettings
    from components.rollout.step import roll_out
    from components.shared.face import SamplingFace

    face = SamplingFace("rollout", context, settings, round_index)
    outputs = roll_out(
        face.ref(dataset),
        face.ref(policy),
        face.ref(difficulty),
        face.ref(augmentation),
        face.ref(state),
        face.settings("rollout", RolloutSettings),
        face.sampler,
        face.context,
        sampling=face.sampling,
        rewards=face.rewards,
    )
    artifacts = {"groups": groups}
    face.finish(outputs, artifacts, metrics=metrics, reports=new_reports, earlier=reports)
