"""KFP face of a shard: of any generating step, which is named, with the inputs that this step has."""

from typing import Optional

from kfp import dsl

from components.shared.face import step_component


@step_component("generation")
def sample_share(
    step: str,
    shard: str,
    context: str,
    settings: str,
    dataset: dsl.Input[dsl.Dataset],
    round_index: int = 0,
    champion: str = "",
    policy: Optional[dsl.Input[dsl.Model]] = None,  # noqa: UP045  # KFP reads no other form
    base: Optional[dsl.Input[dsl.Model]] = None,  # noqa: UP045
    difficulty: Optional[dsl.Input[dsl.Dataset]] = None,  # noqa: UP045
    augmentation: Optional[dsl.Input[dsl.Dataset]] = None,  # noqa: UP045
    baseline: Optional[dsl.Input[dsl.Dataset]] = None,  # noqa: UP045
    scores_base: Optional[dsl.Input[dsl.Dataset]] = None,  # noqa: UP045
    buffer: Optional[dsl.Input[dsl.Artifact]] = None,  # noqa: UP045
    state: Optional[dsl.Input[dsl.Artifact]] = None,  # noqa: UP045
    reports: Optional[dsl.Input[dsl.Artifact]] = None,  # noqa: UP045
):
    """Make this shard's share of a step's responses, on an engine of its own, and leave them in the store for the step.

    Args:
        step: Name of the step that merges the shards: difficulty, augmentation, rollout, evaluation-before, ...
        shard: Which share is made: shard 2 of 4.
        dataset: Reference to the samples and their frames.
        champion: The champion's record in the registry, as JSON; empty if there is none.
        policy: Reference to the policy that answers.
        base: Reference to the base policy, where the champion is evaluated.
        difficulty: Reference to mean rewards, deltas and the un-augmented groups.
        augmentation: Reference to each sample's augmentation record.
        baseline: Reference to the base policy's scores, for the trained policy's evaluation.
        scores_base: Reference to the base policy's scores, for the champion's evaluation.
        buffer: Reference to the replay buffer.
        state: Reference to the training state.
        reports: Reports of the steps before. A shard does not read them: it waits for them, since steps run one after another.
    """
    given = dict(locals())

    from pipelines.sharded_sampling.step import sample_share

    sample_share(given.pop("step"), given.pop("shard"), given)
