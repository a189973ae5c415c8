"""The first task: inputs and overrides become the run's settings, or a clear error before anything starts."""
