"""The steps of the pipeline, one folder a step, and `shared` for what two or more of them need."""
