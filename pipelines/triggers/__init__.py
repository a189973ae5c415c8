"""Runs on a cluster, started from outside it: pipeline versions, runs, recurring runs, through KFP's own client."""
