"""KFP faces of training: a round, and the supervised warm-up before the first one."""

from kfp import dsl

from components.shared.face import step_component


@step_component("training")
def train_policy(
    context: str,
    settings: str,
    round_index: int,
    dataset: dsl.Input[dsl.Dataset],
    policy: dsl.Input[dsl.Model],
    reference: dsl.Input[dsl.Model],
    groups: dsl.Input[dsl.Dataset],
    state: dsl.Input[dsl.Artifact],
    reports: dsl.Input[dsl.Artifact],
    new_policy: dsl.Output[dsl.Model],
    new_state: dsl.Output[dsl.Artifact],
    new_reports: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    nodes: str = "",
    gpu_type: str = "",
    gpu_tolerations: list = [],  # noqa: B006  # KFP takes no other default
    memory: str = "",
    node_selector: dict = {},  # noqa: B006
    store_secret: str = "",
):
    """Update the policy on the round's groups with DeepSpeed.

    Args:
        dataset: Reference to the samples and their frames.
        policy: Reference to the current policy.
        reference: Reference to the policy that KL is measured against.
        groups: Reference to the scored groups.
        state: Reference to the training state.
        new_policy: Reference to the updated policy.
        new_state: Reference to the training state of the next round.
        nodes: The compiled settings of a TrainJob's nodes; empty: this pod trains by itself.
        gpu_type: What the run sets of the nodes, as the further ones; empty: nothing.
    """
    from components.shared.face import StepFace
    from components.training.settings import TrainingSettings
    from components.training.step import train
    from components.training.trainjob.nodes import nodes_of

    face = StepFace("training", context, settings, round_index)
    outputs = train(
        face.ref(dataset),
        face.ref(policy),
        face.ref(reference),
        face.ref(groups),
        face.ref(state),
        face.settings("training", TrainingSettings),
        face.context,
        nodes_of(
            nodes,
            gpu_tolerations,
            gpu_type=gpu_type,
            memory=memory,
            node_selector=node_selector,
            store_secret=store_secret,
        ),
    )
    artifacts = {"policy": new_policy, "state": new_state}
    face.finish(outputs, artifacts, metrics=metrics, reports=new_reports, earlier=reports)


@step_component("training")
def warm_up_policy(
    context: str,
    settings: str,
    dataset: dsl.Input[dsl.Dataset],
    policy: dsl.Input[dsl.Model],
    reports: dsl.Input[dsl.Artifact],
    new_policy: dsl.Output[dsl.Model],
    new_reports: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    nodes: str = "",
    gpu_type: str = "",
    gpu_tolerations: list = [],  # noqa: B006
    memory: str = "",
    node_selector: dict = {},  # noqa: B006
    store_secret: str = "",
):
    """Fine-tune the base policy on given responses before the first round.

    Args:
        dataset: Reference to the samples, their targets and their frames.
        policy: Reference to the base policy.
        new_policy: Reference to the policy that the first round starts from.
        nodes: The compiled settings of a TrainJob's nodes; empty: this pod trains by itself.
        gpu_type: What the run sets of the nodes, as the further ones; empty: nothing.
    """
    from components.shared.face import StepFace
    from components.training.settings import TrainingSettings
    from components.training.trainjob.nodes import nodes_of
    from components.training.warmup import STEP, warm_up
    from components.training.warmup_settings import WarmupSettings

    face = StepFace(STEP, context, settings)
    outputs = warm_up(
        face.ref(dataset),
        face.ref(policy),
        face.settings("warmup", WarmupSettings),
        face.settings("training", TrainingSettings),
        face.context,
        nodes_of(
            nodes,
            gpu_tolerations,
            gpu_type=gpu_type,
            memory=memory,
            node_selector=node_selector,
            store_secret=store_secret,
        ),
    )
    face.finish(outputs, {"policy": new_policy}, metrics=metrics, reports=new_reports, earlier=reports)
