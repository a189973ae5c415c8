"""KFP face of the three sampling steps of a round in one task."""

from kfp import dsl

from components.shared.face import step_component


@step_component("generation")
def sample_round(
    context: str,
    settings: str,
    round_index: int,
    dataset: dsl.Input[dsl.Dataset],
    policy: dsl.Input[dsl.Model],
    buffer: dsl.Input[dsl.Artifact],
    state: dsl.Input[dsl.Artifact],
    reports: dsl.Input[dsl.Artifact],
    difficulty: dsl.Output[dsl.Dataset],
    augmentation: dsl.Output[dsl.Dataset],
    groups: dsl.Output[dsl.Dataset],
    new_buffer: dsl.Output[dsl.Artifact],
    new_reports: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
):
    """Measure difficulty, augment, and roll out: the three steps, one after the other, on one engine.

    Args:
        dataset: Reference to the samples and their frames.
        policy: Reference to the current policy.
        buffer: Reference to the replay buffer.
        state: Reference to the training state.
        difficulty: Reference to mean rewards, deltas and the un-augmented groups.
        augmentation: Reference to each sample's augmentation record.
        groups: Reference to the scored groups.
        new_buffer: Reference to the replay buffer of the next round.
    """
    from components.shared.face import SamplingFace
    from pipelines.fused_sampling.step import sample_round

    face = SamplingFace("sampling", context, settings, round_index)
    parts = sample_round(face, dataset, policy, buffer, state)
    artifacts = {"difficulty": difficulty, "buffer": new_buffer, "augmentation": augmentation, "groups": groups}
    face.finish_parts(parts, artifacts, metrics=metrics, reports=new_reports, earlier=reports)
