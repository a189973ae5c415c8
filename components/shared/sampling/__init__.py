"""Groups of scored responses: what difficulty, augmentation and rollout have in common."""
