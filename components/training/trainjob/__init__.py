"""Training on several nodes: a Kubeflow TrainJob that the training step creates, follows and, when it is ended, deletes."""
