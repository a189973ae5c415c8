"""What goes wrong between here and the cluster."""

from __future__ import annotations


class ClusterError(RuntimeError):
    """Kubeflow Pipelines cannot be reached, or refuses; the message says what was asked of it, and the remedy."""


class ClusterRunFailed(RuntimeError):
    """A run on the cluster did not succeed; the message names the failing tasks."""
