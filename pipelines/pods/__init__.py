"""How the pipeline's tasks run on Kubernetes: settings, their application when the pipeline is compiled, and reading it back."""
