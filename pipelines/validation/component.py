"""KFP face of validation. Its arguments are the pipeline's inputs, as `pipelines/inputs.py` lists them."""

from typing import NamedTuple

from components.shared.face import step_component


@step_component("light")
def validate_inputs(
    base_settings: str,
    run_id: str,
    data_annotations: str,
    data_max_quarantine_fraction: float,
    data_num_frames: int,
    data_videos: str,
    model_base: str,
    model_revision: str,
    promotion_registered_model: str,
    rl_beta: float,
    rl_learning_rate: float,
    rl_num_generations: int,
    rl_num_iterations: int,
    rl_objective: str,
    rl_prompts_per_round: int,
    run_experiment: str,
    run_name: str,
    run_seed: int,
    run_store: str,
    run_tracking_uri: str,
    settings_overrides: str,
    pods: str = "",
    gpu_type: str = "",
    gpu_tolerations: list = [],  # noqa: B006  # KFP takes no other default
    generation_node_selector: dict = {},  # noqa: B006
    training_node_selector: dict = {},  # noqa: B006
) -> NamedTuple("Checked", settings=str, context=str, champion=str):
    """Check every input before anything starts, open the run in MLflow, and look up the current champion.

    Args:
        pods: The compiled settings of the pods; empty in a local run, which has none.
        gpu_type: What the run sets of the pods, as the further ones; empty: nothing.
    """
    inputs = dict(locals())

    from pipelines.validation.step import run

    return run(inputs.pop("base_settings"), inputs.pop("run_id"), inputs, inputs.pop("pods"))
