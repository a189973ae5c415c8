"""KFP face of ingest."""

from kfp import dsl

from components.shared.face import step_component


@step_component("light")
def ingest_data(
    context: str,
    settings: str,
    dataset: dsl.Output[dsl.Dataset],
    policy: dsl.Output[dsl.Model],
    state: dsl.Output[dsl.Artifact],
    buffer: dsl.Output[dsl.Artifact],
    new_reports: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
):
    """Check and decode the data, and bring the base model into the artifact store.

    Args:
        dataset: Reference to the samples and their frames.
        policy: Reference to the current policy.
        state: Reference to the training state.
        buffer: Reference to the replay buffer.
    """
    from components.ingest.settings import IngestSettings
    from components.ingest.step import ingest
    from components.shared.face import StepFace

    face = StepFace("ingest", context, settings)
    outputs = ingest(face.settings("ingest", IngestSettings), face.context)
    artifacts = {"dataset": dataset, "policy": policy, "state": state, "buffer": buffer}
    face.finish(outputs, artifacts, metrics=metrics, reports=new_reports)
