"""What stops an ingest."""

from __future__ import annotations


class IngestError(ValueError):
    """The input cannot be used; the message names the file, the field and the remedy."""
