"""What a run leaves in MLflow: one parent run, one nested run for each step and round. Without a URI: nothing.

Everything here can be repeated: a rerun finds its runs by their tags and adds only what is missing. A tracking store
that fails never fails the step: after some tries the loss is a line in `TrackedRun.warnings`. The registry is another
matter: it decides what a run starts from, so that looking up the champion raises.
"""

from components.shared.tracking.contents import log_dataset, log_files, log_params, log_series
from components.shared.tracking.registry import Alias, Champion, RegistryError, aliased_policies, resolve_champion
from components.shared.tracking.runs import TrackedRun, TrackingWarning, finish_parent, parent_run, step_run
from components.shared.tracking.steps import start_parent, track_step

__all__ = [
    "Alias",
    "Champion",
    "RegistryError",
    "TrackedRun",
    "TrackingWarning",
    "aliased_policies",
    "finish_parent",
    "log_dataset",
    "log_files",
    "log_params",
    "log_series",
    "parent_run",
    "resolve_champion",
    "start_parent",
    "step_run",
    "track_step",
]
