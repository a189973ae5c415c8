"""Hints for hard samples, noise for easy ones."""
