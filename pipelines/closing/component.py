"""KFP face of the exit handler. It gets the pipeline's inputs alone: KFP lets it see nothing that other tasks made."""

from kfp import dsl

from components.shared.face import step_component


@step_component("light")
def close_run(
    status: dsl.PipelineTaskFinalStatus,
    run_id: str,
    run_name: str,
    run_store: str,
    run_tracking_uri: str,
    run_experiment: str,
    notification: str,
):
    """Close the run in the store and in MLflow, send MLflow what still waits, and tell of a failure or no promotion."""
    from pipelines.closing.step import close

    close(
        status.state, status.error_message, run_id, run_name, run_store, run_tracking_uri, run_experiment, notification
    )
