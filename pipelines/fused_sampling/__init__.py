"""Difficulty, augmentation and rollout in one task, so that the engine loads a policy once a round and not three times."""
