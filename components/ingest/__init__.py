"""Ingest: annotations, videos and a base model become validated samples, decoded frames and the run's first policy."""
