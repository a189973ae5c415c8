"""KFP face of difficulty."""

from kfp import dsl

from components.shared.face import step_component


@step_component("generation")
def estimate(
    context: str,
    settings: str,
    round_index: int,
    dataset: dsl.Input[dsl.Dataset],
    policy: dsl.Input[dsl.Model],
    buffer: dsl.Input[dsl.Artifact],
    state: dsl.Input[dsl.Artifact],
    reports: dsl.Input[dsl.Artifact],
    difficulty: dsl.Output[dsl.Dataset],
    new_buffer: dsl.Output[dsl.Artifact],
    new_reports: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
):
    """Sample the round's prompts and measure how hard each is for the current policy.

    Args:
        dataset: Reference to the samples and their frames.
        policy: Reference to the current policy.
        buffer: Reference to the replay buffer.
        state: Reference to the training state.
        difficulty: Reference to mean rewards, deltas and the un-augmented groups.
        new_buffer: Reference to the replay buffer of the next round.
    """
    from components.difficulty.settings import DifficultySettings
    from components.difficulty.step import estimate_difficulty
    from components.shared.face import SamplingFace

    face = SamplingFace("difficulty", context, settings, round_index)
    outputs = estimate_difficulty(
        face.ref(dataset),
        face.ref(policy),
        face.ref(buffer),
        face.ref(state),
        face.settings("difficulty", DifficultySettings),
        face.sampler,
        face.context,
        sampling=face.sampling,
        rewards=face.rewards,
    )
    artifacts = {"difficulty": difficulty, "buffer": new_buffer}
    face.finish(outputs, artifacts, metrics=metrics, reports=new_reports, earlier=reports)
