"""What a run leaves in MLflow: one parent run, one nested run for each step and round. Without a URI: nothing.

Everything here can be repeated: a rerun finds its runs by their tags and adds only what is missing. An MLflow that is
away never fails a step: what it did not take waits in the run's spool in the artifact store, and is sent by a later
step or the run's end. The registry is another matter: it decides what a run starts from, so that looking up the
champion raises; so does starting a run.
"""

from components.shared.tracking.registry import Alias, Champion, RegistryError, aliased_policies, resolve_champion
from components.shared.tracking.runs import find_parent, find_run
from components.shared.tracking.spool import TrackingWarning, send, waiting
from components.shared.tracking.steps import TrackingError, finish_parent, start_parent, track_step

__all__ = [
    "Alias",
    "Champion",
    "RegistryError",
    "TrackingError",
    "TrackingWarning",
    "aliased_policies",
    "find_parent",
    "find_run",
    "finish_parent",
    "resolve_champion",
    "send",
    "start_parent",
    "track_step",
    "waiting",
]
