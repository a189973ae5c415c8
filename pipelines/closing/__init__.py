"""The exit handler of a cluster's pipeline: whatever became of the run, it is closed, and who wants to know is told."""
