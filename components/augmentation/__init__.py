"""Hints for hard samples, noise or masked frames for easy ones."""
