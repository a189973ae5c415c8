"""Scores of a policy on the held-out levels, with intervals."""
