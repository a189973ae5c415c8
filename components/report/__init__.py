"""The report of a run: one HTML page, one JSON summary, the figures as files."""
