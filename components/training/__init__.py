"""Training: one round of groups in, an updated policy and training state out."""
